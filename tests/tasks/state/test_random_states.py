"""Streams: random numbers of their own, and nothing of the caller's moves."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_tasks import global_states, no_global_draw

from lrfinder.tasks.state.random_states import Stream, derive, kept

SEEDS = st.integers(0, 2**63 - 1)


def draw() -> tuple[float, float, float]:
    """One number of each global generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def draw_and_raise(error: type[BaseException]) -> None:
    draw()
    raise error("inside")


def draws(stream: Stream, count: int) -> list[tuple[float, float, float]]:
    with stream.active():
        return [draw() for _ in range(count)]


@given(SEEDS)
def test_a_stream_moves_no_global_state(seed):
    with no_global_draw(), Stream(seed).active():
        draw()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_stream_moves_no_global_state_when_its_body_raises(error):
    with no_global_draw(), pytest.raises(error), Stream(3).active():
        draw_and_raise(error)


def test_the_states_are_given_back_whatever_happens_inside():
    with no_global_draw(), pytest.raises(ValueError, match="inside"), kept():
        draw_and_raise(ValueError)


@given(SEEDS, st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_numbers_whatever_happens_between(seed, other):
    a, b = Stream(seed), Stream(seed)
    first = draws(a, 2)
    with kept():
        random.seed(other)
        torch.manual_seed(other)
        np.random.seed(other)
        pieces = draws(b, 1) + draws(Stream(other), 1)[:0] + draws(b, 1)
    assert first == pieces


def test_different_seeds_give_different_numbers_in_every_generator():
    a, b = draws(Stream(0), 1)[0], draws(Stream(1), 1)[0]
    assert all(x != y for x, y in zip(a, b, strict=True))


@given(SEEDS, st.integers(0, 3))
def test_a_copy_continues_like_the_original_and_independently(seed, before):
    original = Stream(seed)
    draws(original, before)
    twin, third = original.copy(), original.copy()
    ahead = draws(original, 3)
    assert draws(twin, 3) == ahead
    assert draws(third, 3) == ahead


def test_a_stream_continues_after_its_body_raised():
    broken, whole = Stream(0), Stream(0)
    with pytest.raises(ValueError, match="inside"), broken.active():
        draw_and_raise(ValueError)
    assert draws(broken, 1) == draws(whole, 2)[1:]


def test_streams_can_be_nested():
    outer, inner, alone = Stream(0), Stream(1), Stream(0)
    with outer.active():
        first = draw()
        with inner.active():
            draw()
        second = draw()
    assert [first, second] == draws(alone, 2)


def test_global_states_tell_every_generator():
    for move in (random.random, np.random.rand, lambda: torch.rand(())):
        before = global_states()
        move()
        assert global_states() != before


@given(st.lists(st.one_of(st.integers(), st.text()), max_size=3), SEEDS)
def test_a_derived_seed_is_a_pure_function_in_the_range_of_seeds(labels, seed):
    assert derive(seed, *labels) == derive(seed, *labels)
    assert 0 <= derive(seed, *labels) < 2**63
    assert derive(seed, *labels) != derive(seed, *labels, "more")
