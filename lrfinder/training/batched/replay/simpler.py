"""A graph of tensor operations made simpler, with the same results but for rounding.

Batching and differentiating leave operations behind that do nothing: views of the same shape,
products with 1. And the gradient of a weight comes out as the transpose of what the optimizer
needs: reading that costs more than it should, and for few outputs the product itself takes five
times as long as its transpose (64 rows, 128 inputs, 10 outputs, one thread of AVX-512).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

FORMS = "forms"
"""Key of a node's meta: shape, type and device of its tensor in each graph that was traced."""
_ops = torch.ops.aten
_VIEWS = (_ops.view.default, _ops._unsafe_view.default, _ops.expand.default)
_SWAPPED = (1, 2)
"""Dimensions of a stack of matrices."""


def form_of(node: Node) -> tuple[tuple[int, ...], torch.dtype, torch.device] | None:
    """Shape, type and device of the one tensor that a traced node stands for."""
    value = node.meta.get("val")
    return (tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else None


def simplify(graph: Graph) -> None:
    """Make a graph of aten operations simpler, but where something is changed in place.

    Its nodes have their `FORMS`.
    """
    changed = {_memory_of(node) for other in graph.nodes for node in _changed_by(other)}
    if any("as_strided" in str(node.target) for node in graph.nodes):  # takes tensors as they lie
        return
    for rule in (_without_effect, _product_transposed, _sum_of_product):
        for node in list(graph.nodes):
            if node.op != "call_function" or _memory_of(node) in changed:
                continue
            if any(_memory_of(argument) in changed for argument in node.all_input_nodes):
                continue
            simpler = rule(node)
            if simpler is not None:
                node.replace_all_uses_with(simpler)
                graph.erase_node(node)
    graph.eliminate_dead_code()


def _changed_by(node: Node) -> list[Node]:
    """The arguments that an operation changes in place."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return []
    given = zip(schema.arguments, node.args, strict=False)
    pairs = [*given, *((a, node.kwargs.get(a.name)) for a in schema.arguments)]
    changed = (v for a, v in pairs if a.alias_info is not None and a.alias_info.is_write)
    return [
        node
        for value in changed
        for node in (value if isinstance(value, list) else [value])
        if isinstance(node, Node)
    ]


def _memory_of(node: Node) -> Node:
    """The node whose tensor a node is a view of, or itself."""
    schema = getattr(node.target, "_schema", None)
    aliases = schema is not None and any(r.alias_info is not None for r in schema.returns)
    first = node.args[0] if aliases and node.args else None
    return _memory_of(first) if isinstance(first, Node) else node


def _without_effect(node: Node) -> Node | None:
    """The argument of an operation that returns what it was given."""
    first = node.args[0] if node.args else None
    if not isinstance(first, Node):
        return None
    if node.target is _ops.detach.default:
        return first
    keeps = node.target in _VIEWS or (node.target is _ops.mul.Scalar and node.args[1] == 1)
    return first if keeps and _alike(node, first) else None


def _product_transposed(node: Node) -> Node | None:
    """For the transpose of a product of stacks of matrices: the product of their transposes."""
    if not _is_transpose(node):
        return None
    product = node.args[0]
    if not _is_product(product):
        return None
    with node.graph.inserting_before(node):
        left, right = (_transposed(factor) for factor in reversed(product.args))
        return _called(_ops.bmm.default, (left, right), like=node)


def _sum_of_product(node: Node) -> Node | None:
    """For something added to a product: both in one operation."""
    if node.target is not _ops.add.Tensor or node.kwargs:
        return None
    added, product = node.args if _is_product(node.args[1]) else reversed(node.args)
    if not (isinstance(added, Node) and _is_product(product) and _alike(node, product)):
        return None
    forms = zip(_forms(added), _forms(node), strict=False)
    if not all(a and b and a[1:] == b[1:] and len(a[0]) == len(b[0]) for a, b in forms):
        return None
    with node.graph.inserting_before(node):
        return _called(_ops.baddbmm.default, (added, *product.args), like=node)


def _transposed(factor: Any) -> Node:  # noqa: ANN401 (an argument of a product)
    if _is_transpose(factor):
        return factor.args[0]
    return factor.graph.call_function(_ops.transpose.int, (factor, *_SWAPPED))


def _is_transpose(node: Any) -> bool:  # noqa: ANN401
    transposes = isinstance(node, Node) and node.target is _ops.transpose.int
    return transposes and tuple(node.args[1:]) == _SWAPPED


def _is_product(node: Any) -> bool:  # noqa: ANN401
    """Whether it is a product of stacks of matrices that one other operation uses."""
    return isinstance(node, Node) and node.target is _ops.bmm.default and len(node.users) == 1


def _called(operation: Callable[..., Any], args: tuple[Any, ...], *, like: Node) -> Node:
    made = like.graph.call_function(operation, args)
    made.meta[FORMS] = _forms(like)
    return made


def _forms(node: Node) -> tuple[Any, ...]:
    return node.meta.get(FORMS, ())


def _alike(node: Node, other: Node) -> bool:
    """Whether both stand for tensors of the same shape, type and device, in every graph."""
    forms = _forms(node)
    return bool(forms) and all(forms) and forms == _forms(other)
