"""What building a model and its optimizer once shows about them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.imports import importing
from lrfinder.schedules.live import stand_in
from lrfinder.tasks.fields.lr_groups import LRGroups, lr_groups
from lrfinder.tasks.fields.task_checks import check_built, check_has_numbers, check_trainable
from lrfinder.tasks.state.optimizer_copies import unwrapped
from lrfinder.tasks.state.random_states import kept
from lrfinder.tasks.user_code import user_code


@dataclass(frozen=True)
class Prototype:
    """Facts about a task's model and optimizer."""

    device: torch.device
    """Where the factory puts the model."""
    parameters: int
    """Numbers in its parameters; those of lazy modules, whose shapes are not known yet, left out.
    """
    trainable: int
    """Parameters that may get a gradient."""
    untrained: int
    """Those of them that the optimizer does not hold."""
    weights: int
    """Numbers that the optimizer trains."""
    optimizer: str
    stand_in: Optimizer
    """A tiny one like it, built for lr 1, on which schedulers can be started."""
    groups: LRGroups
    """How its parameter groups follow the lr asked for."""


def prototype_of(
    make_model: Callable[[], nn.Module], make_optimizer: Callable[[nn.Module, float], Optimizer]
) -> Prototype:
    """Build both once, without moving a random state.

    Raises InvalidArgument where the factories do not build what they are to, and TaskFailed where
    their code raises.
    """
    accelerator = torch.device("cuda") if torch.cuda.is_initialized() else None
    with kept(accelerator), user_code("building the model"):
        model = make_model()
        check_built("model", model, nn.Module)
        check_has_numbers(model)
        if model is make_model():
            raise InvalidArgument(
                "model() must build a new model at every call, but returned the same one "
                "twice; build it inside the function, or use Task.from_objects"
            )
    with kept(accelerator), user_code("building the optimizer"):
        with importing():  # torch imports its compiler for the first optimizer
            optimizer = unwrapped(make_optimizer(model, 1.0))
        check_built("optimizer", optimizer, Optimizer)
        check_trainable(optimizer)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        trainable = [p for p in model.parameters() if p.requires_grad]
        return Prototype(
            device=next((p.device for p in model.parameters()), torch.device("cpu")),
            parameters=sum(p.numel() for p in model.parameters() if not is_lazy(p)),
            untrained=sum(id(p) not in held for p in trainable),
            trainable=len(trainable),
            weights=sum(p.numel() for p in trainable if id(p) in held and not is_lazy(p)),
            optimizer=type(optimizer).__name__,
            stand_in=stand_in(optimizer),
            groups=lr_groups(make_optimizer, model),
        )
