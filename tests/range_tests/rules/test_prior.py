"""A suggestion as a prior for other searches."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.rules.prior import Prior
from lrfinder.range_tests.rules.suggestion import Suggestion

LRS = st.floats(1e-8, 10)
WIDTHS = st.floats(1.01, 100)


@given(LRS, WIDTHS, WIDTHS)
def test_prior_is_centred_on_the_lr_and_holds_it(lr, below, above):
    prior = Suggestion(lr, lr / below, lr * above, "suggested", "").as_prior()
    assert math.exp(prior.mu) == pytest.approx(lr)
    assert prior.low < lr < prior.high
    assert prior.low * prior.high == pytest.approx(lr**2)


def test_middle_90_percent_are_the_interval():
    prior = Suggestion(0.1, 0.01, 1.0, "suggested", "").as_prior()
    assert math.exp(prior.mu + 1.645 * prior.sigma) == pytest.approx(1.0, rel=1e-3)


def test_optuna_is_asked_on_a_log_scale():
    prior = Suggestion(0.1, 0.05, 0.2, "suggested", "").as_prior()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    trial = study.ask()
    assert prior.low <= prior.suggest(trial, "rate") <= prior.high
    assert trial.distributions["rate"].log


def test_wandb_is_told_mu_and_sigma():
    prior = Prior(-2.0, 0.5, 0.01, 1.0)
    assert prior.wandb() == {"distribution": "log_normal", "mu": -2.0, "sigma": 0.5}


def test_ray_is_asked_on_a_log_scale_or_told_to_be_installed():
    prior = Prior(-2.0, 0.5, 0.01, 1.0)
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(InvalidArgument, match="pip install"):
            prior.ray()
    else:
        domain = prior.ray()
        assert (domain.lower, domain.upper) == (0.01, 1.0)


def test_no_interval_and_no_lr():
    wide = Suggestion(0.1, None, None, "suggested", "").as_prior()
    assert math.exp(wide.mu + 1.645 * wide.sigma) == pytest.approx(1.0, rel=1e-3)
    with pytest.raises(InvalidArgument, match="but got none \\(nothing falls\\)"):
        Suggestion(None, None, None, "inconclusive", "nothing falls").as_prior()


@pytest.mark.parametrize("given", [(0, 0, 1, 2), (0, 1, 2, 2), (0, 1, -1, 2), (math.nan, 1, 1, 2)])
def test_bad_priors_are_refused(given):
    with pytest.raises(InvalidArgument):
        Prior(*given)
