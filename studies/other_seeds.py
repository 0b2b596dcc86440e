"""Does what `lrfinder run digits` says hold on 48 other seeds?

    python studies/other_seeds.py        about 2 minutes on one core; what is recorded is kept

Runs the default command once, keeps what it said (studies/verdict/default_run.json), and trains
its candidates, as they are, on 48 seeds that neither its search nor its comparison had
(studies/verdict/default_run.csv), and beside them constant lrs around the one that the run chose:
was it the best one? What comes of it is the last section of studies/verdict.md.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from markdown import markdown

import lrfinder
from lrfinder import FAMILIES, BatchedTrainer, Candidate, Schedule, compare, load_task
from lrfinder.experiment import training_seeds
from lrfinder.report.wording import conclusions
from lrfinder.results.facts import jsonable
from lrfinder.statistics import Mean, student_t

FOLDER = Path(__file__).parent / "verdict"
SAID, VALUES = FOLDER / "default_run.json", FOLDER / "default_run.csv"
SEEDS = tuple(training_seeds("confirm", 1, 48))
"""Those of the comparison of a run with another seed."""
CONSTANT = "constant"
AROUND = (0.5, 2**0.5, 2.0, 2 * 2**0.5, 4.0)
"""Other constant lrs, as multiples of the run's own."""


def said() -> dict[str, Any]:
    """What the run said, by candidate and in words; the run is made where there is no record."""
    if not SAID.exists():
        with tempfile.TemporaryDirectory() as folder:
            keep(lrfinder.run("digits", out=Path(folder) / "run", progress=False))
    return json.loads(SAID.read_text(encoding="utf-8"))


def keep(run: lrfinder.Run) -> None:
    """Write down what a finished run says."""
    candidates = {
        standing.candidate: {
            "lr": run.answers.families[standing.candidate].lr,
            "params": run.answers.families[standing.candidate].params,
            "difference": standing.difference,
            "seeds": standing.seeds,
            "dropped": standing.dropped_at is not None,
            "same_as": standing.same_as,
        }
        for standing in run.comparison.ranking
    }
    verdict = run.answers.verdict.model_dump()
    facts = {"candidates": candidates, "verdict": verdict, "words": conclusions(run)}
    SAID.write_text(json.dumps(jsonable(facts), indent=1) + "\n", encoding="utf-8")


def on_other_seeds(candidates: dict[str, Any]) -> pd.DataFrame:
    """Final loss by seed and candidate."""
    if not VALUES.exists():
        made = [
            Candidate(name, one["lr"], Schedule(family_of(name), one["params"]))
            for name, one in candidates.items()
        ]
        lr, schedule = candidates[CONSTANT]["lr"], Schedule(FAMILIES[CONSTANT], {})
        made += [Candidate(_constant_at(times * lr), times * lr, schedule) for times in AROUND]
        found = compare(load_task("digits"), made, seeds=SEEDS, trainer=BatchedTrainer())
        found.values.to_csv(VALUES, index_label="seed", float_format="%.8g")
    return pd.read_csv(VALUES, index_col="seed")


def _constant_at(lr: float) -> str:
    return f"{CONSTANT} at {lr:.3g}"


def family_of(candidate: str) -> Any:  # noqa: ANN401 (a Family)
    """The decay family of a candidate; the start is a cosine."""
    return FAMILIES["cosine" if candidate == "start" else candidate]


def lines() -> list[str]:
    """A section of Markdown: candidate by candidate, and statement by statement."""
    facts = said()
    candidates, verdict = facts["candidates"], facts["verdict"]
    values = on_other_seeds(candidates)
    best, used = verdict["best"], verdict["recommended"]
    rows: list[dict[str, object]] = []
    for name, one in candidates.items():
        there = student_t((values[name] - values[best]).to_numpy(), 0.95)
        rows.append(
            {
                "candidate": name,
                "said": _interval(
                    Mean(*(float("nan") if v is None else v for v in one["difference"]))
                ),
                "seeds": one["seeds"],
                "on 48 others": _interval(there),
                "in %": f"{100 * there.mean / values[best].mean():+.1f}",
                "said of it": _said_of(name, one, verdict),
            }
        )
    return [
        "## On other seeds",
        "`lrfinder run digits` once, and its candidates as they are on 48 seeds that it had not "
        f"seen (`python studies/other_seeds.py`): difference to {best}, its best, with 95% "
        "interval, as it said and as it is there.",
        markdown(pd.DataFrame(rows)),
        "\n".join(f"- {sentence}" for sentence in _checked(candidates, verdict, values, used)),
    ]


def _said_of(name: str, one: dict[str, Any], verdict: dict[str, Any]) -> str:
    if name == verdict["recommended"]:
        return "use it"
    if one["same_as"]:
        return f"same as {one['same_as']}"
    if one["dropped"]:
        return "dropped"
    return "as good" if name in verdict["as_good"] else "worse"


def _checked(
    candidates: dict[str, Any], verdict: dict[str, Any], values: pd.DataFrame, used: str
) -> list[str]:
    """Every statement of the report, and what became of it."""
    found: list[str] = []
    means = values.mean()
    against = verdict["against"].get(CONSTANT)
    if against is not None:
        there = student_t((values[CONSTANT] - values[verdict["best"]]).to_numpy(), 0.95)
        low, high = against["better_by"]["low"], against["better_by"]["high"]
        inside = "inside" if low <= there.mean <= high else "outside"
        found.append(
            f"*Better than the tuned constant lr by {_interval(_mean(against['better_by']))}*: "
            f"{_interval(there)} there, {inside} the interval"
            f"{'' if there.low > 0 else ', and not shown there'}."
        )
    found.append(_against_the_best_constant(candidates[CONSTANT]["lr"], values, used))
    means = means[list(candidates)]
    lowest = str(means.idxmin())
    luck = student_t((values[used] - values[lowest]).to_numpy(), 0.95)
    found.append(
        f"*Use {used}*: it has the lowest mean there, too."
        if lowest == used
        else f"*Use {used}*: the lowest mean there is that of {lowest}; {used} lies "
        f"{100 * luck.mean / means[lowest]:.1f}% above it ({_interval(luck)})."
    )
    dropped = [name for name, one in candidates.items() if one["dropped"]]
    if dropped and min(means[name] for name in dropped) >= means[used]:
        found.append(f"*Dropped: {', '.join(dropped)}*: none of them is better there.")
    for name in dropped:
        there = student_t((values[name] - values[used]).to_numpy(), 0.95)
        if there.mean < 0:
            shown = "shown" if there.high < 0 else "not shown"
            found.append(
                f"*Dropped: {name}*: it ends {-100 * there.mean / means[used]:.1f}% below {used} "
                f"there ({shown}: {_interval(there)})."
            )
    for name, one in candidates.items():
        if one["same_as"]:
            apart = int((values[name] != values[one["same_as"]]).sum())
            found.append(
                f"*{name} is the same as {one['same_as']}*: they part on {apart} of "
                f"{len(values)} seeds; the means differ by "
                f"{100 * (means[name] / means[one['same_as']] - 1):+.1f}%."
            )
    return found


def _against_the_best_constant(own: float, values: pd.DataFrame, used: str) -> str:
    """How far what is recommended ends below the constant lr that is best on these seeds."""
    lrs = {CONSTANT: own, **{_constant_at(times * own): times * own for times in AROUND}}
    means = values[list(lrs)].mean()
    lowest = str(means.idxmin())
    there = student_t((values[lowest] - values[used]).to_numpy(), 0.95)
    tried = ", ".join(f"{lr:.3g}" for lr in sorted(lrs.values()))
    return (
        f"*The constant lr is {own:.3g}*: of {tried} the best there is "
        f"{lrs[lowest]:.3g}, chosen on these very seeds; {used} ends "
        f"{100 * there.mean / means[lowest]:.1f}% below it ({_interval(there)}), and "
        f"{100 * (1 - values[used].mean() / means[CONSTANT]):.1f}% below the run's own."
    )


def _mean(facts: dict[str, float]) -> Mean:
    return Mean(facts["mean"], facts["low"], facts["high"])


def _interval(mean: Mean) -> str:
    if mean.low != mean.low:
        return f"{mean.mean:+.4f}"
    return f"{mean.mean:+.4f} ({mean.low:+.4f} to {mean.high:+.4f})"


def main() -> None:
    """Put the section at the end of studies/verdict.md."""
    path = FOLDER.parent / "verdict.md"
    section = lines()
    before = path.read_text(encoding="utf-8").partition(f"{section[0]}\n")[0].rstrip("\n")
    path.write_text("\n\n".join([before, *section]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    main()
