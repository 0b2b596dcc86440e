"""What `configure_optimizers` of a LightningModule builds: one optimizer and its scheduler."""

from collections.abc import Sequence
from typing import Any, cast

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lightning_steps import Length, StandInTrainer, attached
from lrfinder.tasks.adapters.optimizers import baseline_of
from lrfinder.tasks.fields.baseline import Baseline
from lrfinder.types import Per


def configured(
    module: Any,  # noqa: ANN401 (a LightningModule)
    length: Length,
    trainer: Any,  # noqa: ANN401 (a Trainer)
) -> tuple[Optimizer, LRScheduler | None, Per]:
    """What `configure_optimizers` builds: the optimizer, its scheduler, and when that is stepped.

    InvalidArgument where it is more than one optimizer, or a scheduler that skips steps.
    """
    with attached(module, StandInTrainer(length, trainer)):
        made = module.configure_optimizers()
    optimizers, schedulers = _parts(made)
    if len(optimizers) != 1 or not isinstance(optimizers[0], Optimizer):
        raise InvalidArgument(
            "configure_optimizers must return one torch optimizer, but got "
            f"{len(optimizers) or 'none'}; write several as a training loop of your own"
        )
    if not schedulers:
        return optimizers[0], None, "epoch"
    first: Any = schedulers[0]
    config = cast("dict[str, Any]", first) if isinstance(first, dict) else {"scheduler": first}
    if len(schedulers) > 1 or config.get("frequency", 1) != 1:
        raise InvalidArgument(
            "configure_optimizers must return one scheduler that is stepped every epoch or step, "
            "but got several or a frequency; give baseline=None to leave it out of the comparison"
        )
    per = "batch" if config.get("interval", "epoch") == "step" else "epoch"
    return optimizers[0], config["scheduler"], per


def _parts(made: Any) -> tuple[list[Any], list[Any]]:  # noqa: ANN401 (whatever was returned)
    """Optimizers and schedulers in the forms that Lightning takes."""
    if isinstance(made, Optimizer):
        return [made], []
    if isinstance(made, dict):
        one = cast("dict[str, Any]", made)
        scheduler = one.get("lr_scheduler")
        return [one.get("optimizer")], [] if scheduler is None else [scheduler]
    if isinstance(made, tuple | list):
        parts = list(cast("Sequence[Any]", made))
        if len(parts) == 2 and isinstance(parts[0], list):
            schedulers = parts[1] if isinstance(parts[1], list) else [parts[1]]
            return cast("list[Any]", parts[0]), cast("list[Any]", schedulers)
        found = [_parts(part) for part in parts]
        return [o for own, _ in found for o in own], [s for _, own in found for s in own]
    return [], []


def baseline_in_use(
    optimizer: Optimizer, scheduler: LRScheduler | None, per: Per
) -> Baseline | None:
    """What was configured, as a Task's baseline; InvalidArgument for no scheduler of torch's."""
    if scheduler is not None and not isinstance(scheduler, LRScheduler):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArgument(
            "the scheduler of configure_optimizers must be a torch LRScheduler, but got a "
            f"{type(scheduler).__name__}; give baseline=None to leave it out of the comparison"
        )
    return baseline_of(optimizer, scheduler, per)
