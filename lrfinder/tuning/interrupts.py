"""Interrupts that wait for a safe moment.

Ctrl-C in the middle of a database call leaves the caller's intent half done and prints what the
database library thinks of it. Inside `deferred` an interrupt waits until the block has ended.
"""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_HELD_BACK = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred() -> Generator[None]:
    """Hold SIGINT and SIGTERM back until the block ends; then the caller's own handler is called.

    Only the main thread receives signals; in any other the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, FrameType | None]] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        caught.append((signum, frame))

    before = {signum: signal.signal(signum, hold) for signum in _HELD_BACK}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
    for signum, _ in caught[:1]:
        signal.raise_signal(signum)
