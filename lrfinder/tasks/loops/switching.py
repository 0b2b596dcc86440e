"""Going on outside of a greenlet, with what belongs to its thread kept apart."""

from dataclasses import dataclass

import torch
from greenlet import getcurrent

from lrfinder.errors import InvalidArgument


def wait() -> None:
    """Go on outside; what belongs to the thread is put back on return."""
    inside, parent = ThreadStates.now(), getcurrent().parent
    if parent is None:
        raise InvalidArgument(
            "training.log(loss) and the optimizer's steps must be called where train(training) "
            "runs, but were called elsewhere, or after its end"
        )
    try:
        parent.switch()
    finally:
        inside.restore()


@dataclass(frozen=True)
class ThreadStates:
    """Modes of torch that belong to a thread, and are not those of a greenlet."""

    gradients: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    @classmethod
    def now(cls) -> "ThreadStates":
        """The modes of this moment."""
        kinds = ("cpu", "cuda")
        return cls(
            torch.is_grad_enabled(),
            tuple(
                (kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
                for kind in kinds
            ),
        )

    def restore(self) -> None:
        """Make them those of the thread again."""
        torch.set_grad_enabled(self.gradients)
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
