"""What a summary says beside plain copies: where the best lr lies in its range."""

import json
import math

import pytest

from lrfinder.results.answers import _at_bound
from lrfinder.results.facts import jsonable


@pytest.mark.parametrize(
    ("lr", "low", "high", "said"),
    [
        (0.1, 0.001, 0.1, "high"),
        (0.098, 0.001, 0.1, "high"),
        (0.09, 0.001, 0.1, None),
        (0.00102, 0.001, 0.1, "low"),
        (0.0012, 0.001, 0.1, None),
        (0.1, 0.1, 0.1, None),
    ],
)
def test_a_best_lr_within_a_twentieth_of_a_bound_is_said_to_lie_there(lr, low, high, said):
    assert _at_bound(lr, low, high) == said


def test_what_is_not_finite_is_null_in_json():
    value = {"a": math.nan, "b": [math.inf, 1.5], "c": ("x", None)}
    assert json.loads(json.dumps(jsonable(value), allow_nan=False)) == {
        "a": None,
        "b": [None, 1.5],
        "c": ["x", None],
    }
