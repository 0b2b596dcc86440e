"""What a population does where the task raises: run by run, to find the runs that did it.

A program computes all runs at once, so that one whose weights a solver refuses raises for all. Then
every run is computed alone. Those that raise have diverged, unless it is the task's failure; the
others go on as if nothing had happened. A run that raised gets the weights of another one, so that
the program can go on with all; what it does from then on does not matter.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.state.random_states import Stream, mark
from lrfinder.tasks.user_code import describe
from lrfinder.training.batched.state import BatchedState

IsDivergence = Callable[[Exception, int, Sequence[Batch]], bool]
"""Whether what a run raised at these micro-batches, given by its place, is a divergence."""


def remembered(state: BatchedState) -> Callable[[], Mapping[int, Stream]]:
    """Remember the random states of each seed before an update; the result gives them."""
    seeds = state.population.layout.distinct
    if not state.draws_globally:
        streams = {seed: state.streams[seed].copy() for seed in seeds}
        return lambda: streams
    back = mark(state.device)

    def streams_again() -> Mapping[int, Stream]:
        back()
        return {seeds[0]: Stream.now(state.device)}

    return streams_again


def gradients_one_by_one(
    state: BatchedState,
    micro_batches: Sequence[Sequence[Batch]],
    before: Mapping[int, Stream],
    is_divergence: IsDivergence,
) -> tuple[Tensor, list[Tensor]]:
    """Losses [runs], nan where a run raised or was broken before, and gradients, zero there.

    Every run draws from the random states of its seed that were there before.
    """
    layout, parts = state.population.layout, len(micro_batches)
    dtype = torch.float32 if state.device.type == "mps" else torch.float64
    losses = torch.full((len(state),), torch.nan, dtype=dtype)
    gradients = [torch.zeros_like(leaf) for leaf in state.population.leaves]
    after: dict[int, Stream] = {}
    for row, seed in enumerate(layout.seeds):
        if row in state.broken:
            continue
        stream, own = before[seed].copy(), [b[layout.distinct.index(seed)] for b in micro_batches]
        try:
            with stream.active():
                found = [
                    state.program.gradients_of_run(state.population, row, batch, parts)
                    for batch in own
                ]
        except Exception as error:
            if not is_divergence(error, row, own):
                raise
            state.raised[row] = describe(error)
            continue
        after[seed] = stream
        losses[row] = sum(float(loss) for loss, _ in found)
        for whole, *added in zip(gradients, *(own for _, own in found), strict=True):
            whole[row] = sum(part[0] for part in added)
    _go_on_from(state, after)
    state.broken |= frozenset(state.raised)
    _heal(state)
    return losses.to(state.device), gradients


def _go_on_from(state: BatchedState, after: Mapping[int, Stream]) -> None:
    for seed, stream in after.items():
        if state.draws_globally:
            stream.go_on_globally()
        else:
            state.streams[seed] = stream


def _heal(state: BatchedState) -> None:
    """Give runs that raised the weights of one that goes on."""
    whole = [row for row in range(len(state)) if row not in state.broken]
    if not whole:
        return
    population, rows = state.population, list(state.raised)
    with torch.no_grad():
        for tensor in (*population.leaves, *population.fixed, *population.buffers):
            tensor[rows] = tensor[whole[0]].clone()
