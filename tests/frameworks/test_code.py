"""What a run answers is pasted into the real frameworks, and trains by the same learning rates."""

import numpy as np
import pytest
import torch

from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.schedules.in_frameworks import Answer, codes
from lrfinder.schedules.recipe import Recipe

LR, PLATEAU = 0.03, {"mode": "min", "factor": 0.5, "patience": 0}


def recipes(updates):
    """Schedules that a framework has a name for, and others, for three epochs."""
    total = 3 * updates
    return {
        "constant": Schedule(FAMILIES["constant"], {}),
        "step": Schedule(FAMILIES["step"], {"step_size": 2, "gamma": 0.1}),
        "warm-up": Schedule(FAMILIES["exponential"], {"gamma": 0.9}, "batch", 3),
        "cosine": Schedule(FAMILIES["cosine"], {"T_max": total, "eta_min": 0.0}, "batch"),
        "floor": Schedule(FAMILIES["cosine"], {"T_max": total, "eta_min": 1e-3}, "batch"),
        "linear": Schedule(FAMILIES["polynomial"], {"total_iters": total, "power": 1.0}, "batch"),
        "one cycle": Schedule(
            FAMILIES["one_cycle"], {"total_steps": total, "pct_start": 0.3}, "batch"
        ),
        "wsd": Schedule(FAMILIES["wsd"], {"cooldown": 0.5, "shape": "1-sqrt", "steps": 3}),
        "plateau": Schedule(FAMILIES["plateau"], PLATEAU),
    }


def answer(name, updates):
    return Answer(Recipe(LR, recipes(updates)[name]), 3, updates, "SGD")


def expected(name, updates, losses):
    """Learning rate of each update; a plateau's by the losses of the framework's own epochs."""
    schedule = recipes(updates)[name]
    live = schedule.start([LR])
    measures = [None, *losses[:2]]
    return np.concatenate([live.epoch(updates, measure) for measure in measures])[:, 0]


NAMES = [*recipes(1)]


def executed(text, **names):
    exec(text, names)
    return names


@pytest.mark.parametrize("name", NAMES)
def test_lightning(name):
    pytest.importorskip("lightning.pytorch")
    from test_from_lightning import Net, lightnings_own

    made = executed(codes(answer(name, 6))["lightning"])
    kind = type("Pasted", (Net,), {"configure_optimizers": made["configure_optimizers"]})
    _, lrs, losses = lightnings_own(kind())
    np.testing.assert_allclose(lrs[:, 0], expected(name, 6, losses), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_transformers(name, tmp_path):
    pytest.importorskip("transformers")
    from test_from_trainer import trainer_of, transformers_own

    text = codes(answer(name, 4))["transformers"]
    options = {"num_train_epochs": 3, "learning_rate": LR}
    if "args = " in text:
        args = executed(text)["args"]
        fields = "learning_rate lr_scheduler_type lr_scheduler_kwargs num_train_epochs "
        fields += "eval_strategy metric_for_best_model greater_is_better"
        trainer = trainer_of(tmp_path, **{k: getattr(args, k) for k in fields.split()})
    else:
        trainer = trainer_of(tmp_path, **options)
        executed(text, trainer=trainer)
    _, lrs = transformers_own(trainer)
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    np.testing.assert_allclose(
        lrs[:, 0], expected(name, 4, losses or [1.0, 1.0]), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize("name", NAMES)
def test_skorch(name):
    pytest.importorskip("skorch")
    from test_from_skorch import skorchs_own, with_same_weights

    net = with_same_weights(lr=1.0, max_epochs=1)
    executed(codes(answer(name, 6))["skorch"], net=net)
    _, lrs, losses = skorchs_own(net)
    assert torch.isfinite(torch.tensor(losses)).all()
    np.testing.assert_allclose(lrs[:, 0], expected(name, 6, losses), rtol=1e-9, atol=1e-15)
