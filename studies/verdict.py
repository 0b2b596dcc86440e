"""Does the comparison of a run show what is there, and nothing else?

    python studies/verdict.py            about 10 minutes on one core

Draws comparisons from the recorded final losses of nine tuned candidates on 96 seeds
(verdict_records.py makes the records), with replacement, common seeds kept together, and plays
designs on them at equal cost, 8 runs for each candidate: all candidates on 8 seeds with Holm's
correction over all pairs, and halving as `lrfinder run` does it. Three kinds of draws:

    as recorded   the candidates as they are
    alike         every candidate moved to the same mean: whatever is claimed is false
    planted       alike, and the constant lr made worse by so many standard deviations of its own

`worse` is how often the constant lr is shown to be worse than the best, `false` how often any
difference is claimed between candidates of equal mean, `covers` how often the 95% interval of the
difference between the best and the constant lr (or the next one, where the constant is the best)
holds the true one, `regret` how much higher the true mean of what came out best is than the best
true mean, in %, `simplest` the same of what is recommended, `runs` how many were made.

What was found stands in studies/verdict.md, which this script writes.
"""

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import other_seeds
import pandas as pd
from markdown import markdown
from verdict_records import SEEDS, records

from lrfinder.comparison import policy
from lrfinder.comparison.candidates import CONSTANT, ConfirmedRun
from lrfinder.comparison.policy import Halving, Look, Results
from lrfinder.comparison.ranking import Comparison
from lrfinder.comparison.verdict import verdict

CHOSEN_ON = ("friedman", "breast_cancer", "wine", "classifier")
REPORTED_ON = ("digits", "noisy_digits", "diabetes")
PLANTED = (0.5, 1.0, 2.0)
SEARCHED = {"step": 2, "inverse_time": 2, "cosine": 2, "plateau": 2, "wsd": 2}
"""Searched parameters beside the lr; one elsewhere, and none of the constant and the start."""


def compared(drawn: pd.DataFrame, looks: Sequence[Look]) -> Comparison:
    """A comparison of drawn values, made in these looks."""
    columns = {name: drawn[name].to_numpy() for name in drawn}
    runs = [
        ConfirmedRun(name, 1.0, "", seed, float(columns[name][seed]), False, 0, {})
        for look in looks
        for name in look.candidates
        for seed in look.seeds
    ]
    return Comparison(tuple(runs), looks=tuple(looks))


def halving(drawn: pd.DataFrame) -> Comparison:
    """The comparison that `lrfinder run` makes."""
    names, looks = list(drawn), list[Look]()
    columns = {name: dict(enumerate(drawn[name].to_numpy())) for name in names}
    plan, results = Halving(policy.RUNS_PER_CANDIDATE * len(names), (CONSTANT,)), Results(columns)
    while (look := plan.next_look(names, range(len(drawn)), looks, results)) is not None:
        looks.append(look)
    return compared(drawn, looks)


def all_alike(drawn: pd.DataFrame) -> Comparison:
    """Every candidate on eight seeds, and Holm over all pairs."""
    seeds = tuple(range(policy.RUNS_PER_CANDIDATE))
    return compared(drawn, [Look(tuple(drawn), seeds, policy.ERROR_RATE)])


DESIGNS: dict[str, Callable[[pd.DataFrame], Comparison]] = {
    "8 seeds each": all_alike,
    "halving": halving,
}


def moved(table: pd.DataFrame, planted: float | None) -> pd.DataFrame:
    """The table with all means alike, but for the constant's; as it is where none is planted."""
    if planted is None:
        return table
    alike = table - table.mean() + table.mean().mean()
    return alike.assign(constant=alike[CONSTANT] + planted * alike[CONSTANT].std())


def outcomes(
    table: pd.DataFrame, design: Callable[[pd.DataFrame], Comparison], draws: int
) -> dict[str, float]:
    """Shares of the draws, and means over them."""
    random, truth = np.random.default_rng(0), table.mean().to_dict()
    searched = {k: SEARCHED.get(k, int(k not in (CONSTANT, "start"))) for k in table}
    found: list[tuple[float, ...]] = []
    for _ in range(draws):
        rows = random.integers(len(table), size=200)
        made = design(table.iloc[rows].reset_index(drop=True))
        best, said = made.best.candidate, verdict(made, searched)
        names = [s.candidate for s in made.ranking if s.dropped_at is None]
        other = CONSTANT if best != CONSTANT else names[1]
        interval = next(s.difference for s in made.ranking if s.candidate == other)
        claims = policy.shown(made.looks, made.results)
        lowest = min(truth.values())
        found.append(
            (
                best != CONSTANT and frozenset((best, CONSTANT)) in claims,
                any(np.ptp([truth[name] for name in pair]) < 1e-9 for pair in claims),
                interval.low <= truth[other] - truth[best] <= interval.high,
                100 * (truth[best] / lowest - 1),
                100 * (truth[said.recommended] / lowest - 1),
                len(made.runs),
            )
        )
    means = np.array(found, dtype=float).mean(axis=0).tolist()
    return dict(zip(("worse", "false", "covers", "regret", "simplest", "runs"), means, strict=True))


def rows(tables: dict[str, pd.DataFrame], draws: int) -> pd.DataFrame:
    """One row per task, kind of draws and design."""
    kinds: dict[str, float | None] = {"as recorded": None, "alike": 0.0}
    kinds |= {f"planted {size:g} sd": size for size in PLANTED}
    found: list[dict[str, object]] = []
    for task in (*CHOSEN_ON, *REPORTED_ON):
        for kind, planted in kinds.items():
            for name, design in DESIGNS.items():
                row = outcomes(moved(tables[task], planted), design, draws)
                if planted is None:
                    row["false"] = float("nan")
                found.append({"task": task, "draws": kind, "design": name, **row})
        print(pd.DataFrame(found).tail(10).to_string(), flush=True)
    return pd.DataFrame(found)


def means(table: pd.DataFrame) -> str:
    """How much worse each candidate is than the best, in %, with its deviation over seeds."""
    percent = 100 * table / table.mean().min()
    order = percent.mean().sort_values()
    return ", ".join(f"{k} {mean - 100:.1f} ± {percent[k].std():.1f}" for k, mean in order.items())


def main() -> None:
    """Simulate, print and write the tables."""
    parser = argparse.ArgumentParser(description="Does the comparison show what is there?")
    parser.add_argument("--draws", type=int, default=500)
    draws, tables = parser.parse_args().draws, records()
    found = rows(tables, draws)
    error = 100 * (0.05 * 0.95 / draws) ** 0.5
    lines = [
        "# Does the comparison show what is there?",
        f"Made by `python studies/verdict.py`: {draws} draws from {len(SEEDS)} recorded seeds; "
        f"torch {version('torch')}. What the columns are stands at the top of the script. A share "
        f"of 5% has a standard error of {error:.1f}%. The numbers of `comparison/policy.py` were "
        f"chosen on {', '.join(CHOSEN_ON)}, and for power in view of the other three.",
        "Excess of each candidate's mean over the best one, and its deviation over seeds, in %:",
        "\n".join(f"- **{name}**: {means(table)}" for name, table in tables.items()),
        "## Reported on",
        markdown(found[found["task"].isin(REPORTED_ON)]),
        "## Chosen on",
        markdown(found[found["task"].isin(CHOSEN_ON)]),
        *other_seeds.lines(),
    ]
    (Path(__file__).parent / "verdict.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
