"""What introductions to learning rates say of them: does it hold?

    python studies/claims.py             about 10 minutes on one core; what was trained is kept

Every claim is put as a difference that it predicts, in % of a mean loss, between two ways to train
that differ in nothing else: on common fresh seeds, each way at its own lr, which other seeds chose
(tuned.py), on at least two tasks (claims_cases.py). With its 99% interval a difference is

    yes     where the interval lies above 0
    no      where it lies below 0, or below 1%: at most that much of what is claimed
    open    otherwise

and the claim *holds* where it is yes in every case, *does not hold* where it is yes in none and no
in some, *depends on the task* where it is yes in some only, and *cannot be told* where all is open.

What was found stands in studies/claims.md and, case by case, in studies/claims.csv.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from claims_cases import CLAIMS
from markdown import markdown
from tuned import FRESH, TUNING, Records, one_thread

HERE = Path(__file__).parent
RANDOM_TARGETS, PRINTED = "claims_tasks.py:random_targets", HERE / "random_targets.txt"
ASKED = {
    "find": [],
    "run": ["--families", "step,exponential", "--trials", "6", "--quiet"],
}
"""What is asked of the tool about targets that are random."""


RIGHTLY = (
    "The example of step decay as it is often printed draws its inputs and, apart from them, its "
    "targets anew for every batch: one linear layer, mean squared error, SGD at 0.1, StepLR(30, "
    "0.1), 100 epochs of one batch. The loss falls there, from about 1.4 to the variance of the "
    "targets, 1: the layer unlearns its initial weights, and any lr that is large enough to do so "
    "and small enough not to add noise will do. Nothing is learnt of the inputs, so that no lr and "
    "no decay is right for them. `lrfinder find` must refuse, and `lrfinder run` must say that its "
    "search had no suggestion to begin from, and find no decay that matters."
)


def verdict(answers: Sequence[str]) -> str:
    """What the answers of a claim's cases come to."""
    yes = sum(answer == "yes" for answer in answers)
    if yes == len(answers):
        return "holds"
    if yes:
        return f"depends on the task (yes in {yes} of {len(answers)})"
    return "does not hold" if "no" in answers else "cannot be told"


def cases(records: Records) -> pd.DataFrame:
    """One row per claim and case."""
    found: list[dict[str, object]] = []
    for claim, of in CLAIMS.items():
        for case in of(records):
            mean, low, high = case.difference
            found.append(
                {
                    "claim": claim,
                    "task": case.task,
                    "difference": case.what,
                    "percent": round(mean, 2),
                    "low": round(low, 2),
                    "high": round(high, 2),
                    "answer": case.answer if case.counts else "beside",
                }
            )
        print(pd.DataFrame([row for row in found if row["claim"] == claim]).to_string(), flush=True)
    return pd.DataFrame(found)


def verdicts(found: pd.DataFrame) -> pd.DataFrame:
    """One row per claim: its verdict and the differences that it rests on."""
    rows: list[dict[str, object]] = []
    for claim in dict.fromkeys(found["claim"]):
        own = found[(found["claim"] == claim) & (found["answer"] != "beside")]
        figures = (f"{one.percent:+.3g}" for one in own.itertuples())
        rows.append(
            {
                "claim": claim,
                "verdict": verdict(list(own["answer"])),
                "difference, % by case": ", ".join(figures),
            }
        )
    return pd.DataFrame(rows)


def said_of_random_targets() -> str:
    """What `lrfinder find` and `lrfinder run` print of targets of which nothing can be learnt.

    Kept in studies/random_targets.txt; asked where there is none.
    """
    if PRINTED.exists():
        return PRINTED.read_text(encoding="utf-8")
    texts: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for command, options in ASKED.items():
            out = ["--out", f"{folder}/{command}"]
            words = ["lrfinder", command, str(HERE / RANDOM_TARGETS), *options, *out]
            asked = [sys.executable, "-m", *words]
            answer = subprocess.run(asked, capture_output=True, text=True, check=False)
            lines = [line.rstrip() for line in answer.stdout.splitlines() if folder not in line]
            texts += [f"$ lrfinder {' '.join([command, RANDOM_TARGETS, *options])}", *lines]
            texts += [f"(exit status {answer.returncode})", ""]
    PRINTED.write_text("\n".join(texts), encoding="utf-8")
    return "\n".join(texts)


def main() -> None:
    """Train what is not there, and write the tables."""
    one_thread()
    found = cases(Records())
    found.to_csv(HERE / "claims.csv", index=False)
    columns = found.assign(
        interval=[f"{one.low:.3g} to {one.high:.3g}" for one in found.itertuples()]
    )[["claim", "task", "difference", "percent", "interval", "answer"]]
    lines = [
        "# What introductions to learning rates say of them: does it hold?",
        f"Made by `python studies/claims.py`: {len(FRESH)} fresh seeds a way, its lr chosen among "
        f"powers of two on {len(TUNING)} others; 2-core x86_64, torch {version('torch')}. What the "
        "words mean stands at the top of the script. All of it is of small networks and of "
        "trainings of 65 to 1,840 updates; the figures are by case, in the order of the table "
        "below.",
        markdown(verdicts(found)),
        "## Case by case",
        "Difference in %, positive as it is claimed, with its 99% interval.",
        markdown(columns),
        "## Random targets",
        RIGHTLY,
        f"```\n{said_of_random_targets().strip()}\n```",
    ]
    (HERE / "claims.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    main()
