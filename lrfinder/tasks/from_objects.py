"""Factories from a live model and optimizer, which are copied and never touched.

A pristine pair is copied once, together, so that the optimizer's copy points at the model's copy.
Each run copies the model again and then the optimizer, with the copied parameters put in place of
the pristine ones: groups, ratios, defaults and (on request) state survive, whatever the class. The
state follows its parameters to the device that the model was moved to in between. What model and
optimizer share beside tensors is shared by their copies, where the one follows the other.
"""

from collections.abc import Callable
from typing import Any, Literal
from weakref import ReferenceType, ref

from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.state.optimizer_copies import (
    check_copyable,
    copied,
    copied_model,
    copied_optimizer,
    unwrapped,
)
from lrfinder.tasks.state.reach import held_of
from lrfinder.tasks.user_code import shortened

_State = Literal["fresh", "keep"]


def factories(
    model: nn.Module, optimizer: Optimizer, state: _State
) -> tuple[Callable[[], nn.Module], Callable[[nn.Module, float], Optimizer], float]:
    """Return factories for model and optimizer, and the largest lr of the optimizer's groups."""
    optimizer = unwrapped(optimizer)
    _check(model, optimizer, state)
    try:
        pristine, template = copied(model, optimizer)
    except Exception as error:
        raised = shortened(str(error))
        raise InvalidArgument(
            f"the model and optimizer must be copyable, but copy.deepcopy raised {raised}; "
            "use Task(model=...) with a function that builds them"
        ) from error
    holding = held_of(model, optimizer, pristine, template)
    if holding is not None:
        raise InvalidArgument(
            f"{holding} holds on to the model or optimizer given, which no copy can change; "
            "use Task(model=..., optimizer=...) with functions that build them and their hooks"
        )
    if not pristine.training:
        pristine.train()
    if state == "fresh":
        template.state.clear()
    lrs = [float(group["lr"]) for group in template.param_groups]
    top = max(lrs)
    ratios = [lr / top for lr in lrs] if top > 0 else [1.0] * len(lrs)

    latest: list[tuple[ReferenceType[nn.Module], dict[int, Any]]] = []

    def make_model() -> nn.Module:
        memo: dict[int, Any] = {}
        built = copied_model(pristine, memo)
        latest[:] = [(ref(built), memo)]
        return built

    def make_optimizer(built: nn.Module, lr: float) -> Optimizer:
        pairs = list(zip(pristine.parameters(), built.parameters(), strict=True))
        known = next((memo for model, memo in latest if model() is built), {})
        twin = copied_optimizer(template, known | _instead(pristine, built))
        if any(old.device != new.device for old, new in pairs):
            twin.load_state_dict(twin.state_dict())  # moves what torch wants beside the parameter
        for group, ratio in zip(twin.param_groups, ratios, strict=True):
            group["lr"] = lr * ratio
            group.pop("initial_lr", None)
        if top > 0 and "lr" in twin.defaults:
            twin.defaults["lr"] = lr * float(twin.defaults["lr"]) / top
        return twin

    return make_model, make_optimizer, top


def _instead(old: nn.Module, new: nn.Module) -> dict[int, object]:
    """A memo for copy.deepcopy that puts a model and its tensors in place of another one's."""
    pairs = [
        *zip(old.modules(), new.modules(), strict=True),
        *zip(old.parameters(), new.parameters(), strict=True),
        *zip(old.buffers(), new.buffers(), strict=True),
    ]
    return {id(a): b for a, b in pairs}


def _check(model: nn.Module, optimizer: Optimizer, state: str) -> None:
    if state not in ("fresh", "keep"):
        raise InvalidArgument(f"optimizer_state must be 'fresh' or 'keep', but got {state!r}")
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(f"model must be a torch.nn.Module, but got {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            f"optimizer must be a torch.optim.Optimizer, but got {type(optimizer).__name__}"
        )
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise InvalidArgument(
            "the model must have its weights, but its lazy modules have no shapes yet; "
            "run a batch through it first"
        )
    check_copyable(optimizer, model)
