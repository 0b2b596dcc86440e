"""The operations of a training step, written down once and carried out for any number of runs.

`torch.vmap` and autograd find out anew at every update which operations a step is made of. For
small models that takes longer than the operations themselves. Here a step is traced by `make_fx`
with three runs and with five: where the two graphs differ in nothing but whole numbers that are
multiples of the runs, one graph serves every number of runs.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from lrfinder.errors import LRFinderError
from lrfinder.training.batched.replay.simpler import FORMS, form_of, simplify

Operations = Callable[..., Sequence[Tensor]]
"""Take tensors, and after them the number of runs, and return tensors."""
_RUNS = (3, 5)


class NotRecordedError(LRFinderError):
    """The operations of a step depend on the number of runs in a way that is not understood."""


def record(
    step: Callable[..., Sequence[Tensor]], inputs_of: Callable[[int], Sequence[Tensor]]
) -> Operations:
    """The operations of a step, a function of tensors.

    `inputs_of` gives what the step takes for so many runs. What is returned has no autograd graph;
    call it under ``torch.no_grad()``. Raises NotRecordedError, or whatever tracing the step raises.
    """
    few, more = (make_fx(step)(*inputs_of(runs)) for runs in _RUNS)
    graph, constants = _Merged(few, more).result
    simplify(graph)
    return GraphModule(constants, graph).forward


class _Merged:
    """One graph of two that differ in the number of runs."""

    def __init__(self, few: GraphModule, more: GraphModule) -> None:
        self._few, self._more = few, more
        self._graph = Graph()
        self._made: dict[Node, Node] = {}
        self._multiples: dict[int, Node] = {}
        self._constants: dict[str, Tensor] = {}
        nodes, others = list(few.graph.nodes), list(more.graph.nodes)
        if len(nodes) != len(others):
            raise NotRecordedError("the operations of a step depend on the number of runs")
        pairs = list(zip(nodes, others, strict=True))
        for node, _ in pairs:
            if node.op == "placeholder":
                self._made[node] = self._graph.placeholder(node.name)
        self._multiples[1] = self._graph.placeholder("runs")
        for node, other in pairs:
            self._take(node, other)
            if node in self._made:
                self._made[node].meta[FORMS] = form_of(node), form_of(other)

    @property
    def result(self) -> tuple[Graph, dict[str, Tensor]]:
        """The graph, and the tensors that it holds by name."""
        return self._graph, self._constants

    def _take(self, node: Node, other: Node) -> None:
        same = node.op == other.op and (node.op == "placeholder" or node.target == other.target)
        if not same:
            raise NotRecordedError("the operations of a step depend on the number of runs")
        if node.op == "output":
            self._graph.output(self._merged(node.args[0], other.args[0]))
        elif node.op == "get_attr":
            self._made[node] = self._graph.get_attr(self._constant(str(node.target)))
        elif node.op == "call_function":
            args = self._merged(node.args, other.args)
            kwargs = self._merged(node.kwargs, other.kwargs)
            function = cast("Callable[..., Any]", node.target)
            self._made[node] = self._graph.call_function(function, args, kwargs)

    def _constant(self, name: str) -> str:
        """The name of a tensor that is not an input, and must be the same in both graphs."""
        own, other = getattr(self._few, name), getattr(self._more, name)
        if own is not other and not (own.shape == other.shape and torch.equal(own, other)):
            raise NotRecordedError("a constant of a step depends on the number of runs")
        self._constants[name] = own
        return name

    def _merged(self, own: Any, other: Any) -> Any:  # noqa: ANN401 (whatever an operation takes)
        if isinstance(own, Node):
            return self._made[own]
        if isinstance(own, Mapping):
            return {key: self._merged(value, other[key]) for key, value in own.items()}
        if isinstance(own, Sequence) and not isinstance(own, str):
            members = [self._merged(a, b) for a, b in zip(own, other, strict=True)]
            return members if isinstance(own, list) else tuple(members)
        if isinstance(own, slice) or type(own) is not type(other):
            raise NotRecordedError("an argument of an operation depends on the number of runs")
        return own if own == other else self._multiple(own, other)

    def _multiple(self, own: Any, other: Any) -> Node:  # noqa: ANN401
        """The node of a number that is a multiple of the number of runs."""
        few, more = _RUNS
        if type(own) is not int or own % few or own * more != other * few:
            raise NotRecordedError("an argument of an operation depends on the number of runs")
        factor = own // few
        if factor not in self._multiples:
            product = self._graph.call_function(operator.mul, (self._multiples[1], factor))
            self._multiples[factor] = product
        return self._multiples[factor]
