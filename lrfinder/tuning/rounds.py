"""How many trials to ask for and train at once."""

_MANY = 32  # trials at one lr that need no guidance by each other


def ask_size(trials: int, *, one_lr: bool) -> int:
    """Trials of a family to ask at once in a study of so many.

    Those know nothing of each other, but at one lr they have much in common. studies/ask_size.py
    measures what that costs and saves: a quarter of the trials, or at one lr half of few and all of
    many, end as well as pairs.
    """
    if not one_lr:
        return max(2, trials // 4)
    return trials if trials >= _MANY else max(2, trials // 2)


LONG_ROUND = 60.0  # seconds of training that an interrupt may lose
