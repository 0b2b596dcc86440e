"""Measures of a whole set, which are no means of its batches: F1, AUC, word error rate, perplexity.

``Task.evaluate(model)`` computes them from data of its own and returns them by name. Which names
these are shows a first call; every later one must return the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from torch import nn

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.data.batches import outline
from lrfinder.tasks.fields.measures import gradients_where_taken
from lrfinder.tasks.fields.task_checks import check_metric_names

Evaluate = Callable[[nn.Module], Mapping[str, Any]]


def whole_measures(
    evaluate: Evaluate, model: nn.Module, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """What `evaluate` returns for a model, by name, in the order of the names that are known.

    Raises InvalidArgument where that is no mapping, or has other names.
    """
    found: Any = gradients_where_taken(lambda: evaluate(model))
    if not isinstance(found, Mapping):
        cure = "; return the values at the end of the function" if found is None else ""
        raise InvalidArgument(
            "evaluate(model) must return a dict of numbers by name, as in {'f1': 0.9}, but got "
            f"{outline(found)}{cure}"
        )
    values = dict(cast(Mapping[str, Any], found))
    if names is not None and set(values) != set(names):
        raise InvalidArgument(
            f"evaluate(model) must always return the same measures, here {', '.join(names)}, but "
            f"got {', '.join(map(str, values)) or 'none'}"
        )
    return values if names is None else {name: values[name] for name in names}


def names_of(values: Mapping[str, Any], metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the measures; InvalidArgument for one that is taken."""
    check_metric_names(values, "evaluate")
    twice = [name for name in values if name in metrics]
    if twice:
        raise InvalidArgument(
            f"evaluate: the name {twice[0]!r} is that of a metric, too; give one of them another"
        )
    return tuple(values)
