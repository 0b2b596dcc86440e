"""The process around the command: its signals, threads, imports and streams."""

import ctypes
import errno
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import NoReturn

_MALLOC_OPTIONS = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
_KEPT = 2**29, 2**25  # bytes; the second is the most that glibc takes
_AT_ONCE = 5.0  # seconds in which further signals mean what the first one meant


def interrupt_on_signals() -> None:
    """Let SIGINT and SIGTERM interrupt the command, once: it then has time to write its record.

    A signal that comes later than some seconds interrupts again. A SIGINT that is ignored, as in
    the background of a shell, stays so.
    """
    last = -_AT_ONCE

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _AT_ONCE:
            last = now
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)


def let_threads_sleep() -> None:
    """Let intra-op threads sleep while they wait, unless OMP_WAIT_POLICY says otherwise.

    Those of torch spin, between two operations too: on a processor that others use as well, two
    threads then take over ten times the processor time of one, and waiting ones as much as if they
    worked. Read by OpenMP when it is loaded, so before torch is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def keep_freed_memory() -> None:
    """Let malloc keep what is freed, unless the environment says otherwise.

    glibc gives the memory of an update's activations back to the system, which clears it anew for
    the next update: 14% of the time of 16 small CNNs, 25% where their steps are recorded. Held are
    at most 512 MiB more than what is in use. Processes that are started from here do the same.
    """
    names = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"
    if "GLIBC_TUNABLES" in os.environ or any(name in os.environ for name in names):
        return
    with suppress(OSError, AttributeError, TypeError):  # another system, or another malloc
        of_c = ctypes.CDLL(None)
        for name, option, size in zip(names, _MALLOC_OPTIONS, _KEPT, strict=True):
            of_c.mallopt(option, size)
            os.environ[name] = str(size)


def run_to_its_end(command: Callable[[], object], say: Callable[[str], None]) -> NoReturn:
    """Run a command that ends by SystemExit, and exit with its status.

    stdout that cannot take what is written is one line, or none where nobody reads it any more;
    characters that it does not have are replaced.
    """
    _usable_streams()
    status: object = 0
    try:
        try:
            command()
        except SystemExit as ended:
            status = ended.code
        sys.stdout.flush()
    except OSError as error:  # every other one is told where it happens
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG):
            raise
        _drop_stdout()
        if error.errno != errno.EPIPE:
            with suppress(OSError):
                say(f"the output cannot be written: {error.strerror}")
        status = status or 1
    sys.exit(status)  # pyright: ignore[reportArgumentType]


@contextmanager
def stdout_kept_clean() -> Generator[None]:
    """What is printed inside goes to stderr, by C code and by other processes too."""
    sys.stdout.flush()
    kept: int | None = None
    with suppress(OSError):  # stdout may be closed
        kept = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            with suppress(OSError, TypeError, AttributeError):  # not on every system
                ctypes.CDLL(None).fflush(None)
            os.dup2(kept, 1)
            os.close(kept)


def _usable_streams() -> None:
    """Replace streams that are closed, and let others replace characters that they do not have."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")


def _drop_stdout() -> None:
    """Lead stdout to nowhere, so that what is left in its buffer fails no second time."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
