"""One graph for any number of runs, or none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lrfinder.training.batched.replay.recording import NotRecordedError, record

times = torch.ops.aten.mul.Scalar
K = 5  # a size that is a number of runs, too


def inputs_of(runs: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(runs)
    return [torch.randn(runs, 3, K, generator=generator), torch.randn(K, K, generator=generator)]


STEPS = {
    "products": lambda x, w: [x @ w, (x @ w).transpose(1, 2), x.mT @ x],
    "the transpose of a product": lambda x, w: [torch.bmm(x, x.mT @ x).transpose(1, 2) + 1],
    "a sum of a product": lambda x, w: [torch.bmm(x.mT, x) + w, w + torch.bmm(x.mT, x)],
    "a product that is used twice": lambda x, w: [(y := torch.bmm(x.mT, x)) + w, y.mT],
    "views": lambda x, w: [x.reshape(-1, K), x.reshape(len(x), -1), x.flatten(0, 1)[:, None]],
    "a view that changes nothing": lambda x, w: [x.view(len(x), 3, K) * 2, times(x, 1)],
    "a view that changes nothing for three runs": lambda x, w: [x.view(3, len(x), K) * 2],
    "in place": lambda x, w: [y := times(x, 1), y.add_(1), x * 1],
    "in place of a view": lambda x, w: [
        y := times(w, 1),
        y.view(K, K)[0].mul_(2),
        w * 2 + x.mean(),
    ],
    "in place of a factor": lambda x, w: [
        (p := torch.bmm(x.mT, x)).transpose(1, 2),
        p.add_(1),
        (q := torch.bmm(x.mT, x)) + w,
        q.mul_(2),
    ],
    "constants": lambda x, w: [x + torch.tensor([1.0, 2, 3, 4, 5]), torch.zeros(len(x), 3)],
    "sizes as factors": lambda x, w: [x.new_full((2 * len(x), K), 3.0)],
}
UNKNOWN = {
    "a number that depends on the runs": lambda x, w: [x * (1 / len(x))],
    "one more than the runs": lambda x, w: [x.new_zeros(len(x) + 1)],
    "twice the runs but for three": lambda x, w: [x.new_zeros(2 * len(x) - 3)],
    "a size for four runs and more": lambda x, w: [x[:4]] if len(x) > 4 else [x.mean(0)],
    "a loop over the runs": lambda x, w: [sum(own for own in x.unbind())],
    "a constant of the runs": lambda x, w: [x + torch.tensor(list(range(len(x))))[:, None, None]],
}


@pytest.mark.parametrize("name", list(STEPS))
@given(runs=st.integers(1, 12))
@settings(max_examples=8, deadline=None)
def test_the_graph_of_a_step_serves_any_number_of_runs(name, runs):
    step = STEPS[name]
    operations = record(step, inputs_of)
    found = operations(*inputs_of(runs), runs)
    for a, b in zip(found, step(*inputs_of(runs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", list(UNKNOWN))
def test_a_step_that_depends_on_the_number_of_runs_otherwise_is_refused(name):
    with pytest.raises(NotRecordedError, match="number of runs"):
        record(UNKNOWN[name], inputs_of)
