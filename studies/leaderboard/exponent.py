"""By which power of its length does the best lr of a training fall? Several answers, one test each.

    python -m studies.leaderboard.exponent [REPEATS]     5 repeats: 10 minutes on one core

One range test per task for tuning and repeat; the probes are the same for every answer, which are
ways to go on from the lr that the probes favour. Prints the mean regret over tasks, and the worst
task, by kind; then how often the interval, and the lr range in which studies search, touch the lrs
within a standard error of the best.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from lrfinder import Curve, range_test
from lrfinder.range_tests.rules import longer_training
from lrfinder.range_tests.rules.longer_training import read
from lrfinder.range_tests.rules.suggestion import RULE
from lrfinder.tuning.lr_ranges import BEYOND
from studies.leaderboard.oracle import trainer_of
from studies.leaderboard.score import truths
from studies.leaderboard.tasks import EVERY, task
from studies.markdown import markdown

Floats = NDArray[np.float64]
KINDS = ("short", "long", "fine-tuning")


def tested(repeats: int) -> pd.DataFrame:
    """What the probes of every test say: a row per task for tuning and repeat."""
    rows: list[dict[str, object] | None] = []
    for name, entry in EVERY.items():
        for seed in range(0 if entry.held_out else repeats):
            made = task(name)
            rows.append(row_of(name, range_test(made, seeds=[5 * seed], trainer=trainer_of(made))))
        print(name, file=sys.stderr, flush=True)
    return pd.DataFrame([row for row in rows if row is not None])


def row_of(name: str, curve: Curve) -> dict[str, object] | None:
    """What the probes of one test of a task say; None where no loss fell."""
    said, start = curve.suggest(), float(curve.start[0])
    found = read(start, curve.probes, curve.budget, curve.prone)
    if found is None:
        return None
    favoured = found.lr * found.stretch**found.exponent
    moved, rate, fitted = _measured(start, curve.probes, favoured)
    return {
        "task": name,
        "kind": EVERY[name].kind,
        "favoured": favoured,
        "exponent": found.exponent,
        "n": curve.probes[0].updates,
        "budget": curve.budget,
        "moved": moved,
        "rate": rate,
        "fitted": fitted,
        "prone": curve.prone,
        "low": said.low,
        "high": said.high,
    }


def _measured(
    start: float, probes: Sequence[longer_training.Probe], favoured: float
) -> tuple[float, float, float]:
    """By which power of two the favoured lr fell, the rate of the fall, and the over-fitting."""
    top = longer_training.level(start, probes)
    best = min((p for p in probes if np.isfinite(p.loss)), key=lambda probe: probe.loss)
    halfway = read(start, [_as_of_halfway(p) for p in probes], probes[0].updates)
    moved = 0.5 if halfway is None else float(np.log2(halfway.lr / favoured))
    trained = [replace(probe, loss=probe.train_loss) for probe in probes]
    by_training = read(top, trained, probes[0].updates)
    higher = 0.0 if by_training is None else float(np.log2(by_training.lr / favoured))
    lower = (best.loss - best.train_loss) / (top - best.loss)
    fitted = float(np.nan_to_num(np.clip(lower, 0, 1) * np.clip(higher, 0, 1)))
    return moved, (best.halfway - best.loss) / (top - best.loss) / np.log(2), fitted


def _as_of_halfway(probe: longer_training.Probe) -> longer_training.Probe:
    return longer_training.Probe(
        probe.seed,
        probe.lr,
        probe.updates,
        probe.halfway,
        permuted=probe.permuted,
        permuted_deviation=probe.permuted_deviation,
        scatter=probe.scatter,
    )


def answers(tests: pd.DataFrame) -> dict[str, Floats]:
    """The lr of each test by each way to go on from what the probes favour."""
    length = np.log(tests.budget / tests.n).to_numpy(np.float64)
    short = np.log(tests.n / tests.budget.clip(upper=300)).clip(upper=0)
    favoured = np.log(tests.favoured).to_numpy(np.float64)

    def lowered(exponent: Floats | float) -> Floats:
        return np.exp(favoured - exponent * length)

    moved, rate = tests.moved.clip(-0.5, 1.5), tests.rate.clip(-0.3, 1.0)
    fitted = (0.6 + 0.25 * moved - rate + 1.5 * tests.fitted).clip(0, 1.2).to_numpy(np.float64)
    before = (0.6 + 0.5 * moved - rate).clip(0, 1).to_numpy(np.float64)
    powers = {f"times (n / budget)^{p:g}": lowered(p) for p in (0.25, 0.5, 0.8, 1.0)}
    return {
        "as the probes favour it": np.exp(favoured),
        "times (n / min(budget, 300))^0.63, the rule before": np.exp(favoured + 0.63 * short),
        **powers,
        "^ how far the favoured lr moved, within 0 to 1": lowered(
            tests.moved.clip(0, 1).to_numpy(np.float64)
        ),
        "^ (0.6 + 0.5 moved - rate), drawn to 0.6, the rule before": lowered(
            _drawn(before, length)
        ),
        "^ (0.6 + 0.25 moved - rate + 1.5 over-fitting), drawn": lowered(_drawn(fitted, length)),
        "^ (0.6 + 0.25 moved - rate + 1.5 over-fitting + prone), drawn, the rule": lowered(
            tests.exponent.to_numpy(np.float64)
        ),
    }


def _drawn(shown: Floats, length: Floats) -> Floats:
    """Exponents drawn towards 0.6, as the rule draws them."""
    return (length * shown + 0.5 * 0.6) / (length + 0.5)


def _over(tests: pd.DataFrame, fitted: float, prone: float) -> pd.Series:
    """What over-fitting, seen and to come, adds to the exponent."""
    return fitted * tests.fitted + prone * tests.prone


def left_out(tests: pd.DataFrame) -> dict[str, float]:
    """Mean regret by kind with the numbers of the rule chosen without the task that is scored."""
    length = np.log(tests.budget / tests.n).to_numpy(np.float64)
    moved, rate = tests.moved.clip(-0.5, 1.5), tests.rate.clip(-0.3, 1.0)
    grid = product((0.5, 0.6, 0.7), (0.25, 0.5), (0.75, 1.0), (1, 1.5, 2), (0, 0.5, 1, 1.5))
    exponents = [
        _drawn((a + b * moved - c * rate + _over(tests, d, f)).clip(0, 1.2).to_numpy(), length)
        for a, b, c, d, f in grid
    ]
    losses = pd.DataFrame(
        [regrets(tests, tests.favoured * np.exp(-e * length)) for e in exponents]
    ).T.groupby([tests.kind, tests.task])
    means = losses.mean()  # a row per task, a column per choice
    by_kind = means.groupby(level=0)
    sums, counts = by_kind.sum(), by_kind.size()
    found: dict[str, list[float]] = {}
    for kind, name in means.index:
        others = sums.copy()
        others.loc[kind] -= means.loc[kind, name]
        scores = others.div(counts - (counts.index == kind), axis=0).mean()
        found.setdefault(kind, []).append(float(means.loc[kind, name][scores.idxmin()]))
    return {kind: float(np.mean(found[kind])) for kind in KINDS}


def regrets(tests: pd.DataFrame, lrs: Sequence[float] | Floats | pd.Series) -> Floats:
    """What the lrs lose on the tasks of the tests."""
    known = truths()
    return np.array([known[n].regret(lr) for n, lr in zip(tests.task, lrs, strict=True)])


def table(tests: pd.DataFrame) -> pd.DataFrame:
    """Mean regret and worst task by way and kind."""
    rows: list[list[object]] = []
    for name, lrs in answers(tests).items():
        means = pd.Series(regrets(tests, lrs)).groupby([tests.kind, tests.task]).mean()
        cells = [f"{means[kind].mean():.3f} ({means[kind].max():.2f})" for kind in KINDS]
        rows.append([name, *cells])
    without = left_out(tests)
    rows.append(["the same, chosen without the task", *(f"{without[kind]:.3f}" for kind in KINDS)])
    return pd.DataFrame(rows, columns=["lr of the training", *KINDS])


def touching(tests: pd.DataFrame) -> pd.DataFrame:
    """Share of the intervals, and of the studies' ranges, that touch the best lrs, by kind."""
    said = tests.dropna(subset=["low"])
    near = [truths()[name].near_best() for name in said.task]
    below, above = BEYOND[RULE]

    def share(low: Callable[[float], float], high: Callable[[float], float]) -> list[str]:
        pairs = zip(said.low, said.high, near, strict=True)
        holds = pd.Series([low(a) <= top and high(b) >= end for a, b, (end, top) in pairs])
        shares = holds.groupby(said.kind.to_numpy()).mean()
        return [f"{100 * shares[kind]:.0f}%" for kind in KINDS]

    rows = [
        ["interval", *share(lambda low: low, lambda high: high)],
        ["range of the studies", *share(lambda low: low / below, lambda high: high * above)],
    ]
    return pd.DataFrame(rows, columns=["touches the best", *KINDS])


def main(arguments: Sequence[str]) -> None:
    """Test, and print the tables."""
    torch.set_num_threads(1)
    tests = tested(int(arguments[0]) if arguments else 5)
    print(f"{markdown(table(tests))}\n\n{markdown(touching(tests))}")


if __name__ == "__main__":
    main(sys.argv[1:])
