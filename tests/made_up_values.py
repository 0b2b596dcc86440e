"""Finished values made up for the tests of pictures and of the notebook display."""

from dataclasses import replace

import numpy as np
import pandas as pd

from lrfinder.comparison.candidates import ConfirmedRun
from lrfinder.comparison.policy import Look
from lrfinder.comparison.ranking import Comparison
from lrfinder.range_tests.curve import Curve

MARKUP = "<b>$x_1$ & _y</b>"
"""A name that HTML, mathematics and legends could each misread."""


def curve(seeds=3, steps=60, *, scale=1.0, offset=0.0, diverges=True, growth="exponential"):
    """A curve that falls, and ends for its last tenth where it diverges."""
    lr = np.geomspace(1e-5, 10, steps) if growth == "exponential" else np.linspace(0.1, 10, steps)
    noise = 0.01 * np.random.default_rng(0).normal(size=(seeds, steps))
    loss = offset + scale * (2 - 1.5 * np.exp(-((np.log10(lr) + 0.5) ** 2)) + noise)
    if diverges:
        loss[:, steps - steps // 10 :] = np.nan
    start = np.full(seeds, offset + 2.0 * scale)
    names = tuple(range(seeds))
    return Curve(lr, loss, loss, start, {}, names, "batch", growth, "SGD", 64, seeds * steps, 1.0)


def lost_curve(seeds=2):
    """A curve without one finite loss."""
    lr, loss = np.geomspace(1e-5, 10, 30), np.full((seeds, 30), np.nan)
    start, names = np.full(seeds, np.nan), tuple(range(seeds))
    return Curve(lr, loss, loss, start, {}, names, "epoch", "exponential", "SGD", None, 0, 0.0)


def comparison(
    candidates=4, seeds=5, *, scale=1.0, offset=0.0, diverged=(), direction="minimize", gap=0.05
):
    """Candidates in order of their means, each `gap` behind the one before."""
    random, sign = np.random.default_rng(0), 1 if direction == "minimize" else -1
    runs = [
        ConfirmedRun(
            candidate=MARKUP if place == 0 else f"family_{place}",
            lr=0.1,
            schedule="S()",
            seed=seed,
            value=offset + scale * (1 + sign * gap * place + 0.01 * random.normal()),
            diverged=place in diverged,
            updates=10,
            measures={},
        )
        for place in range(candidates)
        for seed in range(seeds)
    ]
    return Comparison(tuple(runs), "loss", direction)


def halved(**twins):
    """Four candidates of which two were dropped after two seeds; `twins`: lrs that are alike."""
    looks = (
        Look((MARKUP, "family_1", "family_2", "family_3"), (0, 1), 0.0),
        Look((MARKUP, "family_1"), (2, 3, 4), 0.04),
    )
    whole = comparison(4, 5, gap=0.2)
    pairs = {(name, seed) for look in looks for name in look.candidates for seed in look.seeds}
    runs = [
        replace(run, lrs=twins.get(run.candidate, 1 + place))
        for place, run in enumerate(whole.runs)
        if (run.candidate, run.seed) in pairs
    ]
    return Comparison(tuple(runs), "loss", "minimize", looks)


def curves(candidates=3, *, scale=1.0, offset=0.0):
    """Lr and loss over epochs of each candidate; the last one diverges."""
    epochs = np.arange(11)
    found = {}
    for place in range(candidates):
        loss = offset + scale * (1 + 0.1 * place + np.exp(-epochs))
        if place and place == candidates - 1:
            loss[5:] = 1e9
            loss[8:] = np.nan
        lr = np.concatenate([[np.nan], 0.1 * 0.9 ** epochs[1:]])
        name = MARKUP if place == 0 else f"family_{place}"
        found[name] = pd.DataFrame({"lr": lr, "loss": loss}, index=epochs)
    return found


def trials(count=20, *, scale=1.0, offset=0.0, diverged=0):
    """Trials of one family with two numbers and a word; the first ones diverged."""
    random = np.random.default_rng(0)
    lr = 10 ** random.uniform(-3, 0, count)
    return pd.DataFrame(
        {
            "family": MARKUP,
            "trial": range(count),
            "value": offset + scale * (1 + np.log10(lr) ** 2),
            "diverged": np.arange(count) < diverged,
            "updates": 10,
            "schedule": "S()",
            "lr": lr,
            "step_size": random.integers(1, 20, count),
            "shape": random.choice(["linear", "1-sqrt"], count),
        }
    )


def summary(status):
    """What summary.json holds of a run without any answer."""
    return {
        "schema": 3,
        "task": MARKUP,
        "optimizer": "SGD",
        "device": "cpu",
        "versions": {},
        "status": status,
        "epochs": 1,
        "engine": None,
        "objective": {"name": "valid_loss", "measure": "loss", "direction": "minimize"},
        "seeds": {"find": [], "search": [], "confirm": []},
        "range_test": None,
        "suggestion": None,
        "lr_search": None,
        "families": {},
        "best": None,
        "ties": [],
        "notes": [],
        "cost": {"updates_asked": 0, "updates_trained": 0, "wall_seconds": 0.0},
    }
