"""How much a search trains at once, how much in all, and until when."""

import math

from lrfinder.training.speed import Speed, Work

_MANY = 32  # trials at one lr that need no guidance by each other
_WELL_SHARED = 32  # runs beyond which more of them make an update hardly cheaper for each
_LONG_ROUND = 60.0  # seconds of training that an interrupt may lose
_FOR_EACH_WORKER = 8  # runs of a round, so that what waits for the last one is a small share of it


def ask_size(trials: int, *, one_lr: bool) -> int:
    """Trials of a family to ask at once in a study of so many.

    Those know nothing of each other, but at one lr they have much in common. studies/ask_size.py
    measures what that costs and saves: a quarter of the trials, or at one lr half of few and all of
    many, end as well as pairs.
    """
    if not one_lr:
        return max(2, trials // 4)
    return trials if trials >= _MANY else max(2, trials // 2)


def trials_at_once(run: Work, seeds: int, speed: Speed, population: int, workers: int) -> int:
    """Trials to train at once: as many as are fast together, and keep all workers busy.

    Of what is trained together there is less where that would take long, because an interrupt loses
    it; what waits for a worker is not lost.

    Args:
        run: the work of one run of a trial.
        seeds: runs of a trial.
        speed, population: how fast a run is, and how many are best trained together.
        workers: processes that train.
    """
    seconds = population * run.seconds(speed)
    together = population * min(1.0, _LONG_ROUND / seconds)
    busy = _FOR_EACH_WORKER * workers if workers > 1 else 0
    return round(max(together * workers, busy) / seeds)


def round_size(seeds: int, population: int, at_once: int) -> int:
    """Trials that are worth a round of their own.

    An update of few runs costs nearly as much as one of many, where runs are trained together:
    for the digits MLP three times as much a run with 8 of them as with 32. Sampling with a model of
    what was told gains less than that (studies/sampler.md).

    Args:
        seeds: runs of a trial.
        population: runs that are best trained together.
        at_once: trials that are trained at once at most.
    """
    return max(1, min(at_once, min(population, _WELL_SHARED) // seeds))


def deadline(began: float, timeout: float | None, comparison_seconds: float) -> float:
    """When a search must stop, so that the comparison ends within the timeout; inf without one.

    The search gets half of the timeout at least. `began` is of time.monotonic(), as the answer is.
    """
    if timeout is None:
        return math.inf
    return began + max(timeout - comparison_seconds, timeout / 2)
