"""An interrupt waits for the end of a block, and is never lost."""

import signal
import threading

import pytest

from lrfinder.tuning.interrupts import deferred


@pytest.fixture(autouse=True)
def interrupts_are_raised():
    """Whatever this process was started under: in the background they may be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_waits_for_the_end_of_the_block():
    done = []

    def work():
        with deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("the rest of the block")
        done.append("what follows")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["the rest of the block"]


def test_the_callers_handlers_are_called_and_come_back():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with deferred():
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
        assert seen == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_handlers_come_back_when_the_block_raises():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="broken"), deferred():
        raise ValueError("broken")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_in_another_thread_runs_as_it_is():
    done = []

    def work():
        with deferred():
            done.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [1]
