"""The claims of claims.py, and what each predicts on each task.

A claim is a function that gives *cases*: on one task, by how many % the loss of the way that is
claimed to be worse is above that of the other one, paired over the fresh seeds of tuned.py.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from claims_tasks import (
    fine_tunings,
    of_length,
    problems,
    rules_per_group,
    single_rules,
    with_optimizer,
    with_outliers,
)
from tuned import FRESH, TUNING, Problem, Records, Way, chosen, ending, percent, usual, way

from lrfinder.statistics import Mean

RELEVANT = 1.0
"""A difference of at most so many % is none."""
OTHER_EPOCHS = {"digits": (5, 40), "noisy digits": (5, 40), "friedman": (5, 80)}
"""Lengths of a training beside the task's own 15 or 20 epochs."""


@dataclass(frozen=True)
class Case:
    """What a claim predicts on one task: a difference in %, positive as it is claimed."""

    task: str
    what: str
    difference: Mean
    counts: bool = True
    """Whether the verdict rests on it, or it only stands beside."""

    @property
    def answer(self) -> str:
        """Yes, no, or open."""
        if self.difference.low > 0:
            return "yes"
        return "no" if self.difference.high < RELEVANT else "open"


@dataclass(frozen=True)
class Bench:
    """A task, its usual ways, and the lr of each."""

    records: Records
    problem: Problem
    ways: dict[str, Way]
    lrs: dict[str, float]

    @classmethod
    def of(cls, records: Records, problem: Problem, names: Iterable[str] | None = None) -> "Bench":
        """With all the usual ways, or some of them."""
        ways = usual(problem.task.epochs)
        ways = {name: ways[name] for name in (names or ways)}
        return cls(records, problem, ways, records.tuned(problem, list(ways.values())))

    def fresh(self, name: str, times: float = 1.0, what: str = "value") -> np.ndarray:
        """A way on the fresh seeds, at so many times its own lr."""
        one, lr = self.ways[name], self.lrs[name] * times
        return self.records.column(self.problem, one, lr, FRESH, what)

    def best(self, *begin: str) -> str:
        """The best on the tuning seeds of the ways whose names begin like one of these."""
        names = [name for name in self.ways if name.startswith(begin)]
        return chosen({name: self.tuning(name) for name in names})

    def tuning(self, name: str) -> float:
        """Mean loss of a way on the seeds that chose its lr."""
        one, lr = self.ways[name], self.lrs[name]
        return float(self.records.column(self.problem, one, lr, TUNING).mean())

    def larger(self, name: str) -> float:
        """Four times the way's lr, or twice where that diverges."""
        return 2.0 if self.fresh(name, 4, "diverged").any() else 4.0

    def case(self, what: str, more: np.ndarray, less: np.ndarray) -> Case:
        """By how many % the first losses are higher."""
        return Case(self.problem.name, what, percent(more, less))


Cases = Iterator[Case]


def early(bench: Bench, times: float) -> np.ndarray:
    """Validation loss of a constant lr after a tenth of the epochs."""
    curve = bench.fresh("constant", times, "valid_curve")
    return curve[:, max(1, bench.problem.task.epochs // 10)]


def larger_is_faster(bench: Bench) -> Cases:
    """A quarter of the best constant lr is behind it, early."""
    slow, own = early(bench, 0.25), early(bench, 1)
    yield bench.case(
        "after a tenth of the epochs: a quarter of the best lr over the best", slow, own
    )


def still_larger_is_faster(bench: Bench) -> Cases:
    """And the best one is behind a larger one."""
    times = bench.larger("constant")
    own, large = early(bench, 1), early(bench, times)
    yield bench.case(
        f"after a tenth of the epochs: the best lr over {times:g} times it", own, large
    )


def large_ends_poorly(bench: Bench) -> Cases:
    """A larger constant lr ends with a higher loss."""
    times = bench.larger("constant")
    large, own = bench.fresh("constant", times), bench.fresh("constant")
    yield bench.case(f"at the end: {times:g} times the best constant lr over the best", large, own)


def large_leaves_poor_minima(bench: Bench) -> Cases:
    """It does so though it falls to a tenth late in the training."""
    step, times = bench.best("step"), bench.larger("constant")
    lr = bench.lrs["constant"] * times
    large = bench.records.column(bench.problem, bench.ways[step], lr, FRESH)
    what = f"{times:g} times the best constant lr, but a tenth in the end ({step}), over constant"
    yield bench.case(what, large, bench.fresh("constant"))


def large_is_swayed(bench: Bench) -> Cases:
    """Outliers among the training rows raise its loss by more."""
    other = with_outliers(bench.problem)
    for name in ("constant", bench.best("step")):
        one, lr, times = bench.ways[name], bench.lrs[name], bench.larger(name)

        def harm(lr: float, one: Way = one) -> np.ndarray:
            harmed = bench.records.column(other, one, lr, FRESH)
            return harmed - bench.records.column(bench.problem, one, lr, FRESH)

        difference = percent(harm(lr * times), harm(lr), of=bench.fresh(name))
        what = f"{name}: what 5% outliers do at {times:g} times the best lr over at the best"
        yield Case(bench.problem.name, what, difference)


def small_is_slow(bench: Bench) -> Cases:
    """A smaller constant lr ends with a higher loss."""
    small, own = bench.fresh("constant", 0.125), bench.fresh("constant")
    yield bench.case("at the end: an eighth of the best lr over the best", small, own)


def small_overfits(bench: Bench) -> Cases:
    """At the lowest training loss that both reach in twice the epochs."""
    long = of_length(bench.problem, 2 * bench.problem.task.epochs)
    lr, one = bench.lrs["constant"], bench.ways["constant"]

    def column(times: float, what: str) -> np.ndarray:
        return bench.records.column(long, one, lr * times, FRESH, what)

    small, own = (
        (column(times, "train_curve"), column(times, "valid_curve")[:, 1:])
        for times in (0.125, 1.0)
    )
    level = np.maximum(small[0].min(1), own[0].min(1))[:, None]
    rows = np.arange(len(level))
    at = [valid[rows, (train <= level).argmax(1)] for train, valid in (small, own)]
    yield bench.case("at equal training loss: an eighth of the best lr over the best", *at)


def hundredfold(kind: str) -> Callable[[Bench], Cases]:
    """Does the lr have to fall to a hundredth rather than to a tenth?"""

    def cases(bench: Bench) -> Cases:
        tenth, hundredth = bench.fresh(f"{kind} to 0.1"), bench.fresh(f"{kind} to 0.01")
        yield bench.case(f"{kind}: falling to 1/10 over falling to 1/100", tenth, hundredth)

    return cases


def thousandfold(kind: str) -> Callable[[Bench], Cases]:
    """And does a thousandth help further?"""

    def cases(bench: Bench) -> Cases:
        less, more = bench.fresh(f"{kind} to 0.01"), bench.fresh(f"{kind} to 0.001")
        yield bench.case(f"{kind}: falling to 1/100 over falling to 1/1000", less, more)

    return cases


def falls_at_all(bench: Bench) -> Cases:
    """A constant lr ends with a higher loss than the best of the smooth decays."""
    fallen = bench.best("exponential", "cosine")
    what = f"constant over {fallen}"
    yield bench.case(what, bench.fresh("constant"), bench.fresh(fallen))


def cosine_against(kind: str, what: str) -> Callable[[Bench], Cases]:
    """Cosine to 0 against the best of the other kind."""

    def of(bench: Bench, name: str) -> np.ndarray:
        if what == "value":
            return bench.fresh(name)
        curve = bench.fresh(name, 1, "valid_curve")
        half = curve.shape[1] // 2
        if what == "halfway":
            return curve[:, half]
        return np.clip(np.diff(curve[:, half:], axis=1), 0, None).sum(1)

    said = {"value": "at the end", "halfway": "half-way", "unsteady": "rises in the second half"}

    def cases(bench: Bench) -> Cases:
        other = bench.best(kind)
        more, less = of(bench, other), of(bench, "cosine to 0")
        scale = bench.fresh("cosine to 0") if what == "unsteady" else None
        difference = percent(more, less, of=scale)
        yield Case(bench.problem.name, f"{said[what]}: {other} over cosine", difference)

    return cases


def sensitive_to_lr(bench: Bench) -> Cases:
    """Missing the best lr by four times, for cosine and, beside it, for a constant lr."""
    for name in ("cosine to 0", "constant"):
        for times in (0.25, 4.0):
            difference = percent(bench.fresh(name, times), bench.fresh(name))
            what = f"{name}: {times:g} times its best lr over its best"
            yield Case(bench.problem.name, what, difference, counts=name != "constant")


def sensitive_to_minimum(bench: Bench) -> Cases:
    """The worst of four floors against the best of them."""
    floors = [name for name in bench.ways if name.startswith("cosine")]
    worst, best = max(floors, key=bench.tuning), min(floors, key=bench.tuning)
    yield bench.case(f"{worst} of the peak over {best}", bench.fresh(worst), bench.fresh(best))


def sensitive_to_epochs(bench: Bench) -> Cases:
    """The lr that is best for the task's own epochs, in a training of another length."""
    usual_epochs = bench.problem.task.epochs
    for epochs in OTHER_EPOCHS[bench.problem.name]:
        other = Bench.of(bench.records, of_length(bench.problem, epochs), ["cosine to 0"])
        times = bench.lrs["cosine to 0"] / other.lrs["cosine to 0"]
        what = f"the best lr of {usual_epochs} epochs ({times:g} times the best) in {epochs}"
        more, less = other.fresh("cosine to 0", times), other.fresh("cosine to 0")
        yield Case(bench.problem.name, what, percent(more, less))


def wrong_t_max(bench: Bench) -> Cases:
    """A cosine that climbs back half-way, or that comes down by half only."""
    epochs, lr = bench.problem.task.epochs, bench.lrs["cosine to 0"]
    for t_max in (epochs // 2, 2 * epochs):
        one = way(f"cosine, T_max {t_max}", "cosine", T_max=t_max, eta_min=0.0)
        wrong = bench.records.column(bench.problem, one, lr, FRESH)
        yield bench.case(f"T_max {t_max} over {epochs}", wrong, bench.fresh("cosine to 0"))


def rule_per_group(records: Records) -> Cases:
    """The best single rule against the best pair of rules, as many of each."""
    for problem in fine_tunings().values():
        epochs = problem.task.epochs
        singles, pairs = single_rules(epochs), rules_per_group(epochs)
        ways = {one.name: one for one in [*singles, *pairs]}
        bench = Bench(records, problem, ways, records.tuned(problem, list(ways.values())))
        single, pair = (min((o.name for o in w), key=bench.tuning) for w in (singles, pairs))
        yield bench.case(f"{single} over {pair}", bench.fresh(single), bench.fresh(pair))


def lr_per_group(records: Records) -> Cases:
    """The best rule at one lr for both groups against the best at two."""
    for problem in fine_tunings().values():
        singles = single_rules(problem.task.epochs)
        ways = {one.name: one for one in singles}
        bench = Bench(records, problem, ways, records.tuned(problem, singles))
        equal = min((name for name in ways if name.endswith("x1")), key=bench.tuning)
        own = min((name for name in ways if not name.endswith("x1")), key=bench.tuning)
        yield bench.case(f"{equal} over {own}", bench.fresh(equal), bench.fresh(own))


def exponential_96(kind: type[torch.optim.Optimizer]) -> Callable[[Records], Cases]:
    """ExponentialLR(gamma=0.96) against a constant lr, and beside it against a deeper fall."""
    lr = {torch.optim.SGD: 1.0, torch.optim.RMSprop: 0.004}[kind]

    def cases(records: Records) -> Cases:
        for name, epochs in (("digits", 20), ("friedman", 60)):
            problem = with_optimizer(of_length(problems()[name], epochs), kind, lr)
            found = [
                way("constant", "constant"),
                way("exponential 0.96", "exponential", gamma=0.96),
                ending("exponential", 0.01, epochs),
            ]
            ways = {one.name: one for one in found}
            bench = Bench(records, problem, ways, records.tuned(problem, found))
            slow = bench.fresh("exponential 0.96")
            yield bench.case("constant over 0.96", bench.fresh("constant"), slow)
            deep = percent(slow, bench.fresh("exponential to 0.01"))
            yield Case(problem.name, "0.96 over a fall to 1/100", deep, counts=False)

    return cases


def on_every_task(cases: Callable[[Bench], Cases]) -> Callable[[Records], Cases]:
    """The cases of all tasks, one task after another."""

    def found(records: Records) -> Cases:
        for problem in problems().values():
            yield from cases(Bench.of(records, problem))

    return found


CLAIMS: dict[str, Callable[[Records], Cases]] = {
    "a larger early lr is faster, up to the best constant lr": on_every_task(larger_is_faster),
    "and beyond it": on_every_task(still_larger_is_faster),
    "a large lr ends poorly": on_every_task(large_ends_poorly),
    "it leaves poor minima, from which a later drop does not lead": on_every_task(
        large_leaves_poor_minima
    ),
    "it is swayed by outliers": on_every_task(large_is_swayed),
    "too small an lr is slow": on_every_task(small_is_slow),
    "too small an lr overfits": on_every_task(small_overfits),
    "the lr should fall": on_every_task(falls_at_all),
    "by 100 times rather than 10 (exponential)": on_every_task(hundredfold("exponential")),
    "by 100 times rather than 10 (cosine)": on_every_task(hundredfold("cosine")),
    "or more: by 1000 times rather than 100 (exponential)": on_every_task(
        thousandfold("exponential")
    ),
    "or more: by 1000 times rather than 100 (cosine)": on_every_task(thousandfold("cosine")),
    "cosine converges faster than step": on_every_task(cosine_against("step", "halfway")),
    "cosine generalises better than step": on_every_task(cosine_against("step", "value")),
    "cosine is steadier than step": on_every_task(cosine_against("step", "unsteady")),
    "cosine converges faster than exponential": on_every_task(
        cosine_against("exponential", "halfway")
    ),
    "cosine generalises better than exponential": on_every_task(
        cosine_against("exponential", "value")
    ),
    "cosine is sensitive to the initial lr": on_every_task(sensitive_to_lr),
    "cosine is sensitive to the minimum lr": on_every_task(sensitive_to_minimum),
    "cosine is sensitive to the number of epochs": on_every_task(sensitive_to_epochs),
    "cosine is sensitive to a T_max that is not the number of epochs": on_every_task(wrong_t_max),
    "fine-tuning: each parameter group needs an lr of its own": lr_per_group,
    "fine-tuning: and a rule of its own": rule_per_group,
    "exponential decay by 0.96 an epoch helps SGD": exponential_96(torch.optim.SGD),
    "exponential decay by 0.96 an epoch helps RMSprop": exponential_96(torch.optim.RMSprop),
}
"""What is claimed, and the cases that it is judged by."""
