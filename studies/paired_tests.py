"""Which test of paired differences should decide between finalists?

    python studies/paired_tests.py       about a minute on one core

A few bad seeds in a hundred, as a plateau has them on wrong labels, are mostly not among the 18 on
which finalists are compared, and then a paired t test sees less spread than there is. Would another
test claim less falsely, and show as much? From the records of verdict_records.py, 18 common seeds
are drawn with replacement, for every pair of candidates and every test:

    false    how often a difference is claimed at 0.039, the share of the last look, where both
             means were made alike: the mean over the pairs of a task, and the worst pair
    shown    how often the candidate with the lowest mean is shown to be better than the constant
             lr, as recorded

t               Student's paired t test: what is used
sign flip       the mean under 2,000 random signs of the differences
Wilcoxon        signed ranks, by their normal approximation
trimmed         Yuen's paired t on means without the outer fifths
winsorised      Student's t after the outer tenths were moved to the tenth and ninetieth percentile
Johnson         Student's t with Johnson's correction for skewness

The last but one test, and the others before it but for t, are of another middle than the mean;
where the bad seeds are rare, that middle is not alike when the means are. What was found stands in
studies/paired_tests.md, which this script writes.
"""

import argparse
from collections.abc import Callable
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from markdown import markdown
from scipy import special, stats
from verdict_records import records

from lrfinder.comparison.policy import ALPHAS

SEEDS, DRAWS, SIGNS = 18, 1000, 2000
ALPHA = ALPHAS[-1]


def student(values: np.ndarray) -> np.ndarray:
    """Two-sided p by row: float64[draws] of float64[draws, seeds]."""
    error = values.std(1, ddof=1) / np.sqrt(values.shape[1])
    return _two_sided(values.mean(1) / np.maximum(error, 1e-300), values.shape[1] - 1)


def sign_flip(values: np.ndarray) -> np.ndarray:
    """Share of the sign patterns whose mean is at least as far from 0."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], (SIGNS, values.shape[1]))
    at_least = np.abs(values @ signs.T) >= np.abs(values.sum(1))[:, None] * (1 - 1e-12)
    return (1 + at_least.sum(1)) / (1 + SIGNS)


def wilcoxon(values: np.ndarray) -> np.ndarray:
    """Signed ranks; those of equal sizes share theirs."""
    n = values.shape[1]
    ranks = stats.rankdata(np.abs(values), axis=1)
    positive = (ranks * (values > 0)).sum(1) + (ranks * (values == 0)).sum(1) / 2
    z = (positive - n * (n + 1) / 4) / np.sqrt((ranks**2).sum(1) / 4)
    return 2 * special.ndtr(-np.abs(z))


def trimmed(values: np.ndarray, share: float = 0.2) -> np.ndarray:
    """Yuen 1974: the trimmed mean over the deviation of the winsorised values."""
    n = values.shape[1]
    cut = int(share * n)
    ordered = np.sort(values, axis=1)
    kept = ordered[:, cut : n - cut]
    pulled = np.clip(ordered, kept[:, :1], kept[:, -1:])
    error = pulled.std(1, ddof=1) / ((1 - 2 * cut / n) * np.sqrt(n))
    return _two_sided(kept.mean(1) / np.maximum(error, 1e-300), n - 2 * cut - 1)


def winsorised(values: np.ndarray) -> np.ndarray:
    """Student's t of the values with their ends pulled in."""
    low, high = np.quantile(values, (0.1, 0.9), axis=1)
    return student(np.clip(values, low[:, None], high[:, None]))


def johnson(values: np.ndarray) -> np.ndarray:
    """Johnson 1978: t with the third moment taken into account."""
    n = values.shape[1]
    mean, deviation = values.mean(1), np.maximum(values.std(1, ddof=1), 1e-30)
    third = ((values - mean[:, None]) ** 3).mean(1) * n**2 / ((n - 1) * (n - 2))
    moved = mean + third / (6 * deviation**2 * n) + third * mean**2 / (3 * deviation**4)
    return _two_sided(moved / (deviation / np.sqrt(n)), n - 1)


def _two_sided(t: np.ndarray, freedom: int) -> np.ndarray:
    return 2 * special.stdtr(freedom, -np.abs(t))


TESTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "t": student,
    "sign flip": sign_flip,
    "Wilcoxon": wilcoxon,
    "trimmed": trimmed,
    "winsorised": winsorised,
    "Johnson": johnson,
}


def rates(table: pd.DataFrame, test: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """How often the test claims what is not there, and shows what is."""
    rows = np.random.default_rng(0).integers(len(table), size=(DRAWS, SEEDS))
    alike = table - table.mean()
    false = {
        (a, b): float((test((alike[a] - alike[b]).to_numpy()[rows]) < ALPHA).mean())
        for a, b in combinations(table, 2)
    }
    worst = max(false, key=lambda pair: false[pair])
    best = table.mean().idxmin()
    shown = test((table["constant"] - table[best]).to_numpy()[rows]) < ALPHA
    return {
        "false": float(np.mean(list(false.values()))),
        "worst pair": false[worst],
        "which": " and ".join(worst),
        "shown": float(shown.mean()) if best != "constant" else float("nan"),
    }


def main() -> None:
    """Simulate and write the table."""
    found = [
        {"task": task, "test": name, **rates(table, test)}
        for task, table in records().items()
        for name, test in TESTS.items()
    ]
    table = pd.DataFrame(found)
    means = table.groupby("test", sort=False)[["false", "worst pair", "shown"]].mean().reset_index()
    lines = [
        "# Which test of paired differences should decide between finalists?",
        f"Made by `python studies/paired_tests.py`: {DRAWS} draws of {SEEDS} of 96 recorded seeds; "
        f"torch {version('torch')}. What the columns are stands at the top of the script. 3.9% is "
        "what each test promises.",
        markdown(table),
        "Means over the tasks:",
        markdown(means),
    ]
    path = Path(__file__).parent / "paired_tests.md"
    path.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    print(markdown(table), markdown(means), sep="\n\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    main()
