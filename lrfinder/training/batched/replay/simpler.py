"""A graph of tensor operations made simpler, with the same results but for rounding.

Batching and differentiating leave operations behind that do nothing: views of the same shape,
products with 1. And the gradient of a weight comes out as the transpose of what the optimizer
needs: reading that costs more than it should, and for few outputs the product itself takes five
times as long as its transpose (64 rows, 128 inputs, 10 outputs, one thread of AVX-512).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node
from torch.fx.node import Argument

FORMS = "forms"
"""Key of a node's meta: shape, type and device of its tensor, in each graph that was traced."""
_ops = torch.ops.aten
_VIEWS = (_ops.view.default, _ops._unsafe_view.default, _ops.expand.default)
_SWAPPED = (1, 2)
"""Dimensions of a stack of matrices."""


def form_of(node: Node) -> tuple[tuple[int, ...], torch.dtype, torch.device] | None:
    """Shape, type and device of the one tensor that a traced node stands for."""
    value = node.meta.get("val")
    return (tuple(value.shape), value.dtype, value.device) if isinstance(value, Tensor) else None


def simplify(graph: Graph) -> None:
    """Make a graph of aten operations, whose nodes have their `FORMS`, simpler.

    What an operation changes in place is left as it is.
    """
    if any("as_strided" in str(node.target) for node in graph.nodes):  # takes memory as it lies
        return
    changed = {_owner(argument) for node in graph.nodes for argument in _changed_by(node)}
    for rule in (_without_effect, _product_transposed, _sum_of_product):
        for node in list(graph.nodes):
            if changed.isdisjoint(map(_owner, (node, *node.all_input_nodes))):
                simpler = rule(node)
                if simpler is not None:
                    node.replace_all_uses_with(simpler)
                    graph.erase_node(node)
    graph.eliminate_dead_code()


def _changed_by(node: Node) -> Iterator[Node]:
    """The arguments that an operation changes in place."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return
    for place, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            own = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
            members = own if isinstance(own, list | tuple) else [own]
            yield from (member for member in members if isinstance(member, Node))


def _owner(node: Node) -> Node:
    """The node in whose memory the tensor of a node lies."""
    schema = getattr(node.target, "_schema", None)
    is_view = schema is not None and any(own.alias_info is not None for own in schema.returns)
    first = node.args[0] if is_view and node.args else None
    return _owner(first) if isinstance(first, Node) else node


def _without_effect(node: Node) -> Node | None:
    """The argument of an operation that returns what it was given."""
    first = node.args[0] if node.args else None
    if node.op != "call_function" or not isinstance(first, Node):
        return None
    if node.target is _ops.detach.default:
        return first
    keeps = node.target in _VIEWS or (node.target is _ops.mul.Scalar and node.args[1] == 1)
    return first if keeps and _alike(node, first) else None


def _product_transposed(node: Node) -> Node | None:
    """For the transpose of a product of stacks of matrices: the product of their transposes."""
    product = _product(_transposed_by(node))
    if product is None:
        return None
    with node.graph.inserting_before(node):
        left, right = (_transposed(factor) for factor in reversed(product.all_input_nodes))
        return _called(_ops.bmm.default, left, right, like=node)


def _sum_of_product(node: Node) -> Node | None:
    """For something added to a product: both in one operation."""
    if node.target is not _ops.add.Tensor or node.kwargs:
        return None
    product = _product(node.args[1]) or _product(node.args[0])
    if product is None or not _alike(node, product):
        return None
    added = node.args[0] if product is node.args[1] else node.args[1]
    if not isinstance(added, Node) or not _fits(added, node):
        return None
    with node.graph.inserting_before(node):
        return _called(_ops.baddbmm.default, added, *product.all_input_nodes, like=node)


def _product(node: Argument) -> Node | None:
    """The node, where it is a product of two stacks of matrices that nothing else uses."""
    if not isinstance(node, Node) or node.target is not _ops.bmm.default or len(node.users) > 1:
        return None
    return node if len(node.all_input_nodes) == 2 else None  # not that of one with itself


def _transposed_by(node: Argument) -> Node | None:
    """What a node is the transpose of, each matrix of a stack."""
    if not isinstance(node, Node) or node.target is not _ops.transpose.int:
        return None
    first = node.args[0]
    return first if isinstance(first, Node) and tuple(node.args[1:]) == _SWAPPED else None


def _transposed(factor: Node) -> Node:
    before = _transposed_by(factor)
    return before or factor.graph.call_function(_ops.transpose.int, (factor, *_SWAPPED))


def _called(operation: Callable[..., Any], *args: Node, like: Node) -> Node:
    made = like.graph.call_function(operation, args)
    made.meta[FORMS] = like.meta[FORMS]
    return made


def _forms(node: Node) -> tuple[Any, ...]:
    """The node's form in each graph; nothing where one of them is not known."""
    forms = node.meta.get(FORMS, ())
    return forms if all(forms) else ()


def _alike(node: Node, other: Node) -> bool:
    """Whether both stand for tensors of the same shape, type and device, in every graph."""
    return bool(_forms(node)) and _forms(node) == _forms(other)


def _fits(added: Node, whole: Node) -> bool:
    """Whether a tensor has the type and the dimensions of a sum, of length 1 or as long."""
    pairs = list(zip(_forms(added), _forms(whole), strict=False))
    return bool(pairs) and all(a[1:] == b[1:] and len(a[0]) == len(b[0]) for a, b in pairs)
