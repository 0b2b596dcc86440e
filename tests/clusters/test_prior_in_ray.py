"""A suggested lr as a prior is a parameter space of the real Ray Tune."""

import warnings

import numpy as np
import pytest

from lrfinder.range_tests.rules.suggestion import Suggestion

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, of what it will drop
    ray = pytest.importorskip("ray")
    tune = pytest.importorskip("ray.tune", exc_type=ImportError)  # it needs the extra ray[tune]

PRIOR = Suggestion(0.1, 0.05, 0.2, "suggested", "").as_prior()


def test_draws_are_even_in_log_lr_between_the_bounds():
    drawn = np.log(PRIOR.ray().sample(size=4000))
    low, high = np.log(PRIOR.low), np.log(PRIOR.high)
    assert low <= drawn.min() < drawn.max() <= high
    parts, _ = np.histogram(drawn, 4, (low, high))
    assert (abs(parts / 1000 - 1) < 0.15).all()


@pytest.fixture
def started(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR")
        yield tmp_path
        ray.shutdown()


def test_tune_searches_it(started):
    def objective(config):
        return {"far": abs(np.log(config["lr"] / 0.1))}

    tuner = tune.Tuner(
        objective,
        param_space={"lr": PRIOR.ray()},
        tune_config=tune.TuneConfig(num_samples=3, metric="far", mode="min"),
        run_config=tune.RunConfig(storage_path=str(started), verbose=0),
    )
    found = tuner.fit()
    lrs = [result.config["lr"] for result in found]
    assert len(set(lrs)) == 3
    assert all(PRIOR.low <= lr <= PRIOR.high for lr in lrs)
    assert found.get_best_result().config["lr"] == min(lrs, key=lambda lr: abs(np.log(lr / 0.1)))
