"""What is it worth to give every decay an lr of its own?

    python studies/fairness.py           about 5 minutes on one core; what was trained is kept

Decays with their usual parameters on three tasks (claims_tasks.py, tuned.py). Two questions:

the shift      by how much the best peak lr of a decay is above the best constant lr: predicted by
               `schedules/transfer.py` without training, and measured, by a parabola through the
               mean losses around the best lr; its 90% interval is that of 500 bootstraps of seeds
the ranking    of all decays at one shared lr, the best constant one; at the predicted lr; and each
               at its own, on fresh seeds: Kendall's tau with the last one, who comes out best, and
               by how many % its loss is above the lowest

What was found stands in studies/fairness.md, which this script writes.
"""

import argparse
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from claims_tasks import problems
from markdown import markdown
from scipy.stats import kendalltau
from tuned import FRESH, TUNING, Problem, Records, Way, one_thread, usual, way

from lrfinder.schedules.transfer import peak_multiplier

BOOTSTRAPS = 500


def decays(epochs: int) -> dict[str, Way]:
    """The constant lr and six decays with their usual parameters, by their families."""
    known = usual(epochs)
    return {
        "constant": known["constant"],
        "step": known["step at 0.7"],
        "exponential": known["exponential to 0.01"],
        "inverse_time": way(
            "inverse_time", "inverse_time", decay_rate=0.5, decay_steps=1, staircase=False
        ),
        "cosine": known["cosine to 0"],
        "polynomial": way("linear", "polynomial", total_iters=epochs, power=1.0),
        "wsd": way("wsd", "wsd", cooldown=0.4, shape="1-sqrt", steps=epochs),
    }


def predicted(problem: Problem, one: Way) -> float:
    """Best peak lr over the best constant lr, by theory."""
    rows = one.schedule(1.0).rows([1.0], problem.task.epochs)[:, 0]
    return peak_multiplier(np.repeat(rows, problem.task.data().updates_per_epoch))


def best_exponent(losses: np.ndarray) -> float:
    """Where the mean over seeds is lowest, in powers of two from the first lr: [lrs, seeds]."""
    means = np.log(losses.mean(1))
    at = int(np.clip(means.argmin(), 1, len(means) - 2))
    below, middle, above = means[at - 1 : at + 2]
    bend = below - 2 * middle + above
    return at + (float(np.clip((below - above) / 2 / bend, -1, 1)) if bend > 0 else 0.0)


def shifts(records: Records, problem: Problem, ways: dict[str, Way]) -> pd.DataFrame:
    """One row per decay: the predicted and the measured shift, as factors."""
    grids: dict[str, tuple[int, np.ndarray]] = {}
    for name, one in ways.items():
        centre = records.tuned(problem, [one])[one.name]
        k = round(math.log2(centre / problem.lr))
        exponents = range(min(-1, k - 1), max(2, k + 1) + 1)
        columns = [records.column(problem, one, problem.lr * 2.0**e, TUNING) for e in exponents]
        grids[name] = exponents[0], np.array(columns)

    def measured(name: str, seeds: np.ndarray) -> float:
        (first, own), (least, constant) = grids[name], grids["constant"]
        return first + best_exponent(own[:, seeds]) - least - best_exponent(constant[:, seeds])

    random, everyone = np.random.default_rng(0), np.arange(len(TUNING))
    draws = random.integers(len(TUNING), size=(BOOTSTRAPS, len(TUNING)))
    rows: list[dict[str, object]] = []
    for name in (name for name in ways if name != "constant"):
        low, high = np.quantile([measured(name, draw) for draw in draws], (0.05, 0.95))
        rows.append(
            {
                "task": problem.name,
                "decay": name,
                "predicted": predicted(problem, ways[name]),
                "measured": 2.0 ** measured(name, everyone),
                "90% interval": f"{2.0**low:.2g} to {2.0**high:.2g}",
            }
        )
    return pd.DataFrame(rows)


def rankings(records: Records, problem: Problem, ways: dict[str, Way]) -> pd.DataFrame:
    """Mean loss on the fresh seeds by decay, at each of the three lrs."""
    own = records.tuned(problem, list(ways.values()))
    shared = own["constant"]
    lrs = {
        "shared": dict.fromkeys(ways, shared),
        "predicted": {name: shared * predicted(problem, one) for name, one in ways.items()},
        "own": {name: own[one.name] for name, one in ways.items()},
    }
    means = {
        kind: {n: records.column(problem, ways[n], lr, FRESH).mean() for n, lr in each.items()}
        for kind, each in lrs.items()
    }
    return pd.DataFrame(means)


def compared(problem: Problem, means: pd.DataFrame) -> list[dict[str, object]]:
    """One row per kind of lr: how its ranking agrees with that of each at its own."""
    own = means["own"]
    rows: list[dict[str, object]] = []
    for kind in means:
        best = str(means[kind].idxmin())
        rows.append(
            {
                "task": problem.name,
                "lr": kind,
                "tau": float(kendalltau(means[kind], own).statistic),
                "best": best,
                "as trained, above the lowest, %": 100 * (means[kind][best] / own.min() - 1),
                "the decay at its own lr, %": 100 * (own[best] / own.min() - 1),
                "largest cost of the lr, %": 100 * float((means[kind] / own - 1).max()),
            }
        )
    return rows


def error(found: pd.DataFrame, column: str | None) -> float:
    """Root mean square error of a shift in decades; without a column, of no shift."""
    said = 0.0 if column is None else np.log10(found[column])
    return float(np.sqrt(((np.log10(found["measured"]) - said) ** 2).mean()))


def main() -> None:
    """Train what is not there, and write the tables."""
    one_thread()
    records, moved, ranked, losses = Records(), [], [], []
    for problem in problems().values():
        ways = decays(problem.task.epochs)
        moved.append(shifts(records, problem, ways))
        means = rankings(records, problem, ways)
        ranked += compared(problem, means)
        losses.append(means.rename_axis("decay").reset_index().assign(task=problem.name))
        print(moved[-1].to_string(), means.to_string(), sep="\n", flush=True)
    found = pd.concat(moved)
    by_task = [(name, own) for name, own in [*found.groupby("task"), ("all", found)]]
    errors = pd.DataFrame(
        [
            {"task": n, "decades off, predicted": error(t, "predicted"), "no shift": error(t, None)}
            for n, t in by_task
        ]
    )
    lines = [
        "# What is it worth to give every decay an lr of its own?",
        f"Made by `python studies/fairness.py`: {len(TUNING)} seeds choose the lrs among powers of "
        f"two, {len(FRESH)} others are for the rankings; torch {version('torch')}. What the words "
        "mean stands at the top of the script.",
        "## The shift of the best lr, as a factor",
        markdown(found),
        "Root mean square error in decades:",
        markdown(errors),
        "## The ranking",
        markdown(pd.DataFrame(ranked)),
        "Mean losses:",
        markdown(pd.concat(losses)[["task", "decay", "shared", "predicted", "own"]]),
    ]
    (Path(__file__).parent / "fairness.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    main()
