"""A recipe as a Python function of the scheduler step, for loops that set the lr themselves.

``get_lr(t)`` is the learning rate at scheduler step t = 0, 1, ..., warm-up included. A family that
is not built in is written as a table of its learning rates.
"""

from collections.abc import Callable

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.families import formulas
from lrfinder.schedules.families.decays import milestones_of
from lrfinder.schedules.families.family import Family, Params
from lrfinder.schedules.families.registry import FAMILIES
from lrfinder.schedules.recipe import Recipe
from lrfinder.types import Value

Lines = list[str]


def function_code(recipe: Recipe, steps: int) -> str:
    """Definitions of ``LR`` and ``get_lr(t)``; they need nothing but Python.

    `steps` are those that a table has to hold. InvalidArgument for a schedule that follows a
    measure, which is no function of the step.
    """
    schedule = recipe.schedule
    if schedule.family.by_measure:
        raise InvalidArgument(
            f"{schedule.family.name} follows the validation measure and is no function of the "
            "step; use the code for torch"
        )
    if schedule.family.by_group is not None:
        raise InvalidArgument(
            f"{schedule.family.name} has a learning rate for each parameter group; "
            "use the code for torch"
        )
    named = _is_built_in(schedule.family)
    body = body_of(schedule.family, schedule.params) if named else _table(recipe, steps)
    if schedule.warmup and named:
        w = schedule.warmup
        body = [f"if t < {w}:", f"    return LR * (t + 1) / {w + 1}", f"t -= {w}", *body]
    unit = "epoch" if schedule.stepped_per == "epoch" else "update"
    lines = [f"LR = {recipe.lr!r}", "", "", "def get_lr(t):"]
    lines += [f'    """Learning rate of {unit} t, from 0."""', *(f"    {line}" for line in body)]
    text = "\n".join(lines)
    return f"import math\n\n{text}" if "math." in text else text


def body_of(family: Family, params: Params) -> Lines:
    """Statements that return the lr of scheduler step ``t``, from the peak ``LR``.

    InvalidArgument for a family that is not built in, or follows a measure.
    """
    if not _is_built_in(family) or family.by_measure:
        raise InvalidArgument(f"{family.name} is not known as a function of the step")
    return _BODIES[family.name](**params)


def _is_built_in(family: Family) -> bool:
    return FAMILIES.get(family.name) is family


def _table(recipe: Recipe, steps: int) -> Lines:
    lrs = recipe.schedule.rows([recipe.lr], steps)[:, 0].tolist()
    return [f"lrs = {lrs}", "return lrs[min(t, len(lrs) - 1)]"]


def _returned(factor: str) -> Lines:
    return [f"return LR * {factor}"]


def _cosine(T_max: int, eta_min: float) -> Lines:
    return [_between(eta_min, f"t / {T_max}")]


def _between(eta_min: float, share: str) -> str:
    """Half a cosine down from LR to eta_min."""
    wave = f"(1 + math.cos(math.pi * {share})) / 2"
    if eta_min == 0:
        return f"return LR * {wave}"
    return f"return {eta_min!r} + (LR - {eta_min!r}) * {wave}"


def _restarts(T_0: int, T_mult: int, eta_min: float) -> Lines:
    if T_mult == 1:
        return [_between(eta_min, f"(t % {T_0}) / {T_0}")]
    return [
        f"period = {T_0}",
        "while t >= period:",
        f"    t, period = t - period, period * {T_mult}",
        _between(eta_min, "t / period"),
    ]


def _one_cycle(total_steps: int, pct_start: float) -> Lines:
    peak, end = float(pct_start * total_steps) - 1, total_steps - 1
    first, last = 1 / 25, 1 / 25 / 1e4
    return [
        f"if t <= {peak!r}:",
        f"    share, start, end = t / {peak!r}, {first!r}, 1.0",
        "else:",
        f"    share, start, end = (t - {peak!r}) / {end - peak!r}, 1.0, {last!r}",
        "return LR * (end + (start - end) / 2 * (1 + math.cos(math.pi * min(share, 1.0))))",
    ]


def _triangular(step_size_up: int) -> Lines:
    period = 2 * step_size_up
    up = f"1 - abs((t % {period}) / {step_size_up} - 1)"
    return [f"return LR * (0.25 + 0.75 * ({up}))"]


def _constant() -> Lines:
    return ["return LR"]


def _step(step_size: int, gamma: float) -> Lines:
    return _returned(f"{gamma!r} ** (t // {step_size})")


def _multistep(milestones: str, gamma: float) -> Lines:
    steps = milestones_of({"milestones": milestones})
    return _returned(f"{gamma!r} ** sum(t >= step for step in {steps})")


def _exponential(gamma: float) -> Lines:
    return _returned(f"{gamma!r}**t")


def _polynomial(total_iters: int, power: float) -> Lines:
    return _returned(f"(1 - min(t, {total_iters}) / {total_iters}) ** {power!r}")


def _of_factor(write: Callable[..., str]) -> Callable[..., Lines]:
    """Lines for a family whose factor is written as text already."""

    def lines(**params: Value) -> Lines:
        return _returned(f"({write(**params)})")

    return lines


_BODIES: dict[str, Callable[..., Lines]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "exponential_steps": _of_factor(formulas.exponential_steps_code),
    "inverse_time": _of_factor(formulas.inverse_time_code),
    "cosine": _cosine,
    "cosine_restarts": _restarts,
    "polynomial": _polynomial,
    "one_cycle": _one_cycle,
    "stable_power": _of_factor(formulas.stable_power_code),
    "triangular": _triangular,
    "wsd": _of_factor(formulas.wsd_code),
}
"""What the function does after a warm-up, by the family's name."""
