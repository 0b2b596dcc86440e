"""The finders of other packages, as published, at the settings that their documentation shows.

What the documentation leaves to the caller is the same for all: the search starts at 1e-7 (1e-8 in
Lightning, its default) and has 100 updates.
"""

import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from typing import Any

from lrfinder import Task
from studies.leaderboard.finders import Answer, Finder, Pieces, pieces

_LOW, _STEPS = 1e-7, 100
Search = Callable[[Pieces], tuple[float | None, int]]


def _torch_lr_finder(live: Pieces) -> tuple[float | None, int]:
    from matplotlib.figure import Figure
    from torch_lr_finder import LRFinder

    finder = LRFinder(live.model, live.optimizer, live.criterion)
    finder.range_test(live.loader)
    updates = len(finder.history["lr"])
    _, lr = finder.plot(ax=Figure().subplots())
    return lr, updates


def _ignite(live: Pieces) -> tuple[float | None, int]:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    trainer = create_supervised_trainer(live.model, live.optimizer, live.criterion)
    finder = FastaiLRFinder()
    saved = {"model": live.model, "optimizer": live.optimizer}
    with finder.attach(trainer, saved, start_lr=_LOW, num_iter=_STEPS) as searching:
        searching.run(live.loader)
    said = finder.lr_suggestion()  # a list where there are several parameter groups
    lr = max(said) if isinstance(said, list) else said
    return lr, len(finder.get_results()["lr"])


def _lightning(live: Pieces) -> tuple[float | None, int]:
    import lightning
    from lightning.pytorch.tuner import Tuner

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = live.model
            self.lr = _LOW

        def training_step(self, batch: Any, _: int) -> Any:  # noqa: ANN401
            return live.criterion(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:  # noqa: ANN401
            return live.optimizer

    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        found = Tuner(trainer).lr_find(Module(), train_dataloaders=live.loader)
    if found is None:
        return None, 0
    return found.suggestion(), len(found.results["lr"])


def _finder(search: Search) -> Finder:
    """A finder from a search over live objects; an exception is a refusal with its message."""

    def finder(task: Task, seeds: Sequence[int]) -> Answer:
        before = time.process_time()
        try:
            with _quiet():
                lr, updates = search(pieces(task, seeds[0], _LOW))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return Answer(None, seconds=time.process_time() - before, reason=reason[:120])
        reason = "" if lr is not None else "no suggestion"
        return Answer(lr, updates, time.process_time() - before, reason)

    return finder


@contextmanager
def _quiet() -> Generator[None]:
    """Neither bars nor notices on the screen."""
    for name in ("lightning", "lightning.pytorch", "ignite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        yield


_PACKAGES: Mapping[str, tuple[str, Search]] = {
    "torch-lr-finder": ("torch_lr_finder", _torch_lr_finder),
    "Ignite": ("ignite", _ignite),
    "Lightning": ("lightning", _lightning),
}


def installed() -> dict[str, Finder]:
    """The finders whose package is installed."""
    return {
        name: _finder(search)
        for name, (module, search) in _PACKAGES.items()
        if find_spec(module) is not None
    }


def missing() -> list[str]:
    """The finders whose package is not installed."""
    return [name for name in _PACKAGES if name not in installed()]
