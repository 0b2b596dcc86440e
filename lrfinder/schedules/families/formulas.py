"""The families and growths that torch has no class for: LambdaLR with a small function.

Each is a factor: the learning rate at scheduler step t as a share of the initial one. Its twin
below it is the same formula as Python text, for `Schedule.code`.
"""

from lrfinder.checks import COUNT, FLAG, FROM_ZERO, POSITIVE, SHARE, one_of
from lrfinder.schedules.families.codegen import Factor, lambda_builder, lambda_writer
from lrfinder.schedules.families.family import Budget, Family, Params, Trial


def _periods(decay_steps: int, staircase: bool) -> Factor:
    """How many times decay_steps have passed at step t; whole ones only in a staircase."""
    return lambda t: t // decay_steps if staircase else t / decay_steps


def _periods_code(decay_steps: int, staircase: bool) -> str:
    return f"(t {'//' if staircase else '/'} {decay_steps})"


def _suggest_periods(trial: Trial, budget: Budget) -> tuple[int, bool]:
    """decay_steps and staircase; a staircase of single steps would be no staircase."""
    if trial.suggest_categorical("staircase", [True, False]):
        return trial.suggest_int("decay_steps", 2, budget.steps - 1), True
    return budget.steps_per_epoch, False


def _inverse_time(decay_rate: float, decay_steps: int, staircase: bool) -> Factor:
    periods = _periods(decay_steps, staircase)
    return lambda t: 1 / (1 + decay_rate * periods(t))


def inverse_time_code(decay_rate: float, decay_steps: int, staircase: bool) -> str:
    """The factor as Python text in ``t``."""
    return f"1 / (1 + {decay_rate!r} * {_periods_code(decay_steps, staircase)})"


def _inverse_time_space(trial: Trial, budget: Budget) -> Params:
    decay_steps, staircase = _suggest_periods(trial, budget)
    decay_rate = trial.suggest_float("decay_rate", 0.01, 10.0, log=True)
    return {"decay_rate": decay_rate, "decay_steps": decay_steps, "staircase": staircase}


INVERSE_TIME = Family(
    name="inverse_time",
    params={"decay_rate": POSITIVE, "decay_steps": COUNT, "staircase": FLAG},
    build=lambda_builder(_inverse_time),
    code=lambda_writer(inverse_time_code),
    space=_inverse_time_space,
    defaults=lambda _: [{"staircase": False, "decay_rate": 0.5}],
    formula="lr(t) = lr0 / (1 + decay_rate * t / decay_steps); staircase floors t / decay_steps",
    source="https://keras.io/api/optimizers/learning_rate_schedules/inverse_time_decay/",
    min_steps=3,
    conditional=True,
)


def _exponential_steps(decay_rate: float, decay_steps: int, staircase: bool) -> Factor:
    periods = _periods(decay_steps, staircase)
    return lambda t: decay_rate ** periods(t)


def exponential_steps_code(decay_rate: float, decay_steps: int, staircase: bool) -> str:
    """The factor as Python text in ``t``."""
    return f"{decay_rate!r} ** {_periods_code(decay_steps, staircase)}"


def _rate_that_ends_at(share: float, periods: float) -> float:
    """The decay_rate that leaves this share of the lr after so many periods."""
    return max(1e-300, share ** (1 / periods))


def _exponential_steps_space(trial: Trial, budget: Budget) -> Params:
    decay_steps, staircase = _suggest_periods(trial, budget)
    periods = _periods(decay_steps, staircase)(budget.steps - 1)
    low, high = _rate_that_ends_at(1e-4, periods), _rate_that_ends_at(0.99, periods)
    decay_rate = trial.suggest_float("decay_rate", low, high, log=True)
    return {"decay_rate": decay_rate, "decay_steps": decay_steps, "staircase": staircase}


def _exponential_steps_defaults(budget: Budget) -> list[Params]:
    periods = (budget.steps - 1) / budget.steps_per_epoch
    return [{"staircase": False, "decay_rate": _rate_that_ends_at(0.01, periods)}]


EXPONENTIAL_STEPS = Family(
    name="exponential_steps",
    params={"decay_rate": POSITIVE, "decay_steps": COUNT, "staircase": FLAG},
    build=lambda_builder(_exponential_steps),
    code=lambda_writer(exponential_steps_code),
    space=_exponential_steps_space,
    defaults=_exponential_steps_defaults,
    formula="lr(t) = lr0 * decay_rate**(t / decay_steps); staircase floors the exponent",
    source="https://keras.io/api/optimizers/learning_rate_schedules/exponential_decay/",
    min_steps=3,
    conditional=True,
)


def _wsd(cooldown: float, shape: str, steps: int) -> Factor:
    length = _cooldown_steps(cooldown, steps)
    power = 1.0 if shape == "linear" else 0.5
    return lambda t: 1 - min(1.0, max(0.0, (t - steps + length) / length)) ** power


def wsd_code(cooldown: float, shape: str, steps: int) -> str:
    """The factor as Python text in ``t``."""
    length = _cooldown_steps(cooldown, steps)
    power = "" if shape == "linear" else " ** 0.5"
    return f"1 - min(1.0, max(0.0, (t - {steps} + {length!r}) / {length!r})){power}"


def _cooldown_steps(cooldown: float, steps: int) -> float:
    """Length of the cooldown, to the digits that the code shows."""
    return float(f"{cooldown * steps:.6g}")


def _shortest_cooldown(budget: Budget) -> float:
    """The least share: the cooldown takes two steps, or a twentieth of the budget."""
    return max(0.05, 2 / budget.steps)


def _wsd_space(trial: Trial, budget: Budget) -> Params:
    """At least half of a run is stable, or it is no wsd: a polynomial decays all the way."""
    low = _shortest_cooldown(budget)
    return {
        "cooldown": trial.suggest_float("cooldown", low, min(1.0, max(0.5, 2 * low))),
        "shape": trial.suggest_categorical("shape", ["linear", "1-sqrt"]),
        "steps": budget.steps,
    }


def _wsd_defaults(budget: Budget) -> list[Params]:
    return [{"cooldown": max(0.4, _shortest_cooldown(budget)), "shape": "1-sqrt"}]


WSD = Family(
    name="wsd",
    params={"cooldown": SHARE, "shape": one_of("linear", "1-sqrt"), "steps": COUNT},
    build=lambda_builder(_wsd),
    code=lambda_writer(wsd_code),
    space=_wsd_space,
    defaults=_wsd_defaults,
    formula=(
        "lr(t) = lr0 until t = steps - n, n = cooldown * steps; then lr0 * (1 - u) if linear, "
        "lr0 * (1 - sqrt(u)) if 1-sqrt, u = (t - (steps - n)) / n; 0 from t = steps on"
    ),
    source="Haegele et al. 2024, arXiv 2405.18392",
    min_steps=3,
)


def _stable_power(stable: float, power: float, steps: int) -> Factor:
    length = _cooldown_steps(1 - stable, steps)
    return lambda t: min(1.0, max(0.0, (steps - t) / length)) ** power


def stable_power_code(stable: float, power: float, steps: int) -> str:
    """The factor at scheduler step t."""
    length = _cooldown_steps(1 - stable, steps)
    return f"min(1.0, max(0.0, ({steps} - t) / {length!r})) ** {power!r}"


def _stable_power_space(trial: Trial, budget: Budget) -> Params:
    return {
        "stable": trial.suggest_float("stable", 0.0, max(0.0, 1 - _shortest_cooldown(budget))),
        "power": trial.suggest_float("power", 0.5, 4.0, log=True),
        "steps": budget.steps,
    }


def _middle(budget: Budget) -> float:
    """The usual stable share: the first half."""
    return min(0.5, 1 - _shortest_cooldown(budget))


STABLE_POWER = Family(
    name="stable_power",
    params={"stable": FROM_ZERO, "power": POSITIVE, "steps": COUNT},
    build=lambda_builder(_stable_power),
    code=lambda_writer(stable_power_code),
    space=_stable_power_space,
    defaults=lambda budget: [{"stable": _middle(budget), "power": 1.0}],
    formula=(
        "lr(t) = lr0 until t = stable * steps, then lr0 * ((steps - t) / n)**power, "
        "n = (1 - stable) * steps, and 0 from t = steps on; stable 0 is polynomial (linear at "
        "power 1), power 1 is wsd with a linear cooldown"
    ),
    source="Haegele et al. 2024, arXiv 2405.18392; torch.optim.lr_scheduler.PolynomialLR",
    min_steps=3,
)
