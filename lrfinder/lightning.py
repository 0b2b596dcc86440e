"""A callback for Lightning: the suggested lr, printed before the first update of `fit`.

    from lrfinder.lightning import LearningRateFinder

    trainer = Trainer(max_epochs=20, callbacks=[LearningRateFinder()])
    trainer.fit(module, datamodule)

Copies of the module are trained, as `Task.from_lightning` does; the module, the data and all random
states stand afterwards as they stood, and `fit` trains as it does without the callback. With
`set_lr=True` the optimizer begins at the suggested lr.

Lightning is imported when the class is asked for, and not before: the rest of lrfinder does not
need it.
"""

import sys
from functools import cache
from importlib import import_module
from typing import Any

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.range_test import range_test
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.report.wording import suggestion_lines
from lrfinder.tasks.adapters.optimizers import peak_lrs, scale_lrs
from lrfinder.tasks.task import Task

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""Names under which Lightning is installed; those of the one that is in use are not mixed."""


class _SuggestsLR:
    """Prints a suggested lr before the first update of `fit`, and sets it on request.

    The lr is the peak of the scheduler that `configure_optimizers` builds, or that of a constant lr
    without one, for as long as the Trainer trains. It is that of the parameter group with the
    largest lr; the others keep their ratio to it.

    Args:
        set_lr: whether `fit` begins at the suggested lr, its scheduler with it; hyperparameters
            that were saved are not changed. Where nothing can be suggested, the lr stays.
        valid_loss: the logged value to compare by, where `validation_step` neither returns the loss
            nor logs it as val_loss.
        options: of `lrfinder.range_test`: seeds, cost, timeout, min_lr, max_lr, ...

    Raises InvalidArgument as `Task.from_lightning` does, and in a Trainer of several processes.
    """

    curve: Curve | None = None
    """The range test; None before it."""
    suggestion: Suggestion | None = None
    """What it suggests; None before it."""

    def __init__(
        self,
        *,
        set_lr: bool = False,
        valid_loss: str | None = None,
        **options: Any,  # noqa: ANN401 (those of range_test, checked there)
    ) -> None:
        super().__init__()
        self.set_lr, self.valid_loss, self.options = set_lr, valid_loss, options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401 (Lightning's)
        """Test copies of the module; print what is suggested."""
        if trainer.world_size > 1:
            raise InvalidArgument(
                "the range test trains in one process, but the Trainer has "
                f"{trainer.world_size}; run it once with Trainer(devices=1), and give the lr"
            )
        if trainer.global_step > 0:
            trainer.print("lrfinder: no range test, as training goes on from a checkpoint")
            return
        self._test(trainer, pl_module)
        found = self.suggestion
        if self.set_lr and found is not None and found.lr is not None:
            optimizer = trainer.optimizers[0]
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            scale_lrs(optimizer, schedulers, found.lr / max(peak_lrs(optimizer)))
            trainer.print(f"lr set to {found.lr:.3g}")

    def _test(self, trainer: Any, module: Any) -> None:  # noqa: ANN401 (Lightning's)
        """Make the range test and print its suggestion."""
        task = Task.from_lightning(
            module,
            train_loader=trainer.train_dataloader,
            valid_loader=trainer.val_dataloaders,
            trainer=trainer,
            valid_loss=self.valid_loss,
        )
        for note in task.data().notes():
            trainer.print(f"note: {note}")
        self.curve = range_test(task, **self.options)
        schedule = None if task.baseline is None else task.baseline.schedule
        like = task.prototype.stand_in
        self.suggestion = self.curve.suggest(schedule, per=task.per, lr_ratios=like)
        trainer.print("\n".join(suggestion_lines(self.suggestion)))


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a class)
    if name == "LearningRateFinder":
        return _callback(next((one for one in _PACKAGES if one in sys.modules), None))
    raise AttributeError(f"module {__name__} has no attribute {name}")


@cache
def _callback(package: str | None) -> type:
    """The callback as a class of the Lightning that is in use, or else is installed."""
    for one in _PACKAGES if package is None else (package,):
        try:
            callback: Any = import_module(one).Callback
        except ImportError:
            continue
        names = {"__module__": __name__, "__doc__": _SuggestsLR.__doc__}
        return type("LearningRateFinder", (_SuggestsLR, callback), names)
    raise InvalidArgument(
        "the callback needs Lightning, which is not installed; pip install lightning"
    )
