"""What lrfinder says of the tasks that were written after its rule.

    python -m studies.leaderboard.held_out [--repeats 5] [--out FILE.csv] [TASK ...]

Prints a row for each task. Every look at them is a line of LOOKS.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from studies.leaderboard.finders import OWN
from studies.leaderboard.held_out.later_tasks import LATER
from studies.leaderboard.results import GOOD, REFERENCE, collect
from studies.leaderboard.score import regret, truths
from studies.markdown import markdown


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each task: what its best lr is, what was said, and whether that holds."""
    return pd.DataFrame([_line(str(name), own) for name, own in rows.groupby("task", sort=False)])


def _line(name: str, rows: pd.DataFrame) -> dict[str, str]:
    truth, said = truths()[name], rows.dropna(subset=["lr"])
    near, most = truth.near_best(), rows.regret.max()
    touches = (said.low <= near[1]) & (said.high >= near[0])
    ends = [[regret(name, lr) <= GOOD for lr in said[end]] for end in ("band_low", "band_high")]
    return {
        "task": name,
        "kind": str(rows.kind.iloc[0]),
        "best lr": f"{truth.best_lr:.2g}",
        "suggested": f"{said.lr.min():.2g} to {said.lr.max():.2g}",
        "regret (worst)": f"{rows.regret.mean():.3f} ({most:.3f})",
        "cosine": f"{rows.cosine_regret.mean():.3f} ({rows.cosine_regret.max():.3f})",
        "interval touches": f"{touches.sum()} of {len(said)}",
        "band's ends": f"{sum(ends[0])} and {sum(ends[1])} of {len(said)}",
        "refused": f"{rows.refused.sum()}",
        "updates": f"{rows.updates.mean():.0f}",
    }


def main(words: Sequence[str] | None = None) -> None:
    """Test, and print the table."""
    parser = argparse.ArgumentParser("python -m studies.leaderboard.held_out", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="by default all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="where to write a row for each test")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = collect({REFERENCE: OWN[REFERENCE]}, asked.tasks or list(LATER), asked.repeats)
    if asked.out is not None:
        rows.to_csv(asked.out, index=False, float_format="%.4g")
    print(markdown(table(rows)))


if __name__ == "__main__":
    main()
