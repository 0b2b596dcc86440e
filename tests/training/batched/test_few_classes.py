"""The quicker cross-entropy is torch's own."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lrfinder.tasks.loading import load_task
from lrfinder.training.batched.few_classes import quick
from lrfinder.training.batched.trainer import BatchedTrainer

RUNS, ROWS = 5, 33


def scores(classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(classes)
    return (3 * torch.randn(RUNS, ROWS, classes, dtype=dtype)).requires_grad_()


def targets(classes: int, kind: str) -> Tensor:
    found = torch.randint(0, classes, (ROWS,))
    if kind != "all count":
        found[:: 3 if kind == "some are ignored" else 1] = -100
    return found


class Other(nn.CrossEntropyLoss):
    """One of another type, which may do anything."""


def other_losses() -> dict[str, object]:
    hooked = nn.CrossEntropyLoss()
    hooked.register_forward_hook(lambda module, given, found: 2 * found)
    replaced = nn.CrossEntropyLoss()
    replaced.forward = lambda input, target: input.sum()
    return {
        "weighted": nn.CrossEntropyLoss(weight=torch.arange(10.0)),
        "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
        "summed": nn.CrossEntropyLoss(reduction="sum"),
        "ignores 3": nn.CrossEntropyLoss(ignore_index=3),
        "of another type": Other(),
        "hooked": hooked,
        "replaced": replaced,
        "another function": functional.mse_loss,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["all count", "some are ignored", "none counts"])
@pytest.mark.parametrize("classes", [1, 2, 10, 16, 17, 100])
@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss(), functional.cross_entropy])
def test_losses_and_gradients_are_those_of_torch(loss, classes, kind, dtype):
    output, target = scores(classes, dtype), targets(classes, kind)
    plain, found = (torch.vmap(f, (0, None))(output, target) for f in (loss, quick(loss)))
    one = quick(loss)(output[0], target)
    for a, b in ((plain, found), (loss(output[0], target), one)):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-6, equal_nan=True)
    (a,), (b,) = (torch.autograd.grad(x.sum(), output) for x in (plain, found))
    torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("name", list(other_losses()))
def test_any_other_loss_stays_what_it_is(name):
    loss = other_losses()[name]
    assert quick(loss) is loss


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.randn(4, 3, 6), torch.zeros(4, 6, dtype=torch.int64)),  # classes in the middle
        (torch.randn(3), torch.tensor(1)),  # one row without a dimension for rows
        (torch.randn(4, 3), torch.rand(4, 3).softmax(1)),  # shares of classes
        (torch.randn(4, 3).bfloat16(), torch.zeros(4, dtype=torch.int64)),
    ],
)
def test_other_kinds_of_scores_are_left_to_torch(output, target):
    assert torch.equal(
        quick(functional.cross_entropy)(output, target), functional.cross_entropy(output, target)
    )


@pytest.mark.parametrize("target", [10, -1])
def test_a_class_that_is_none_is_refused(target):
    output = torch.randn(RUNS, 4, 10)
    wrong = torch.full((4,), target)
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        torch.vmap(quick(functional.cross_entropy), (0, None))(output, wrong)


def test_rows_that_do_not_fit_are_refused_as_by_torch():
    with pytest.raises(ValueError, match="batch_size"):
        quick(nn.CrossEntropyLoss())(torch.randn(4, 3), torch.zeros(5, dtype=torch.int64))


def test_runs_that_are_batched_train_with_it_and_those_that_are_not_do_not():
    task = load_task("digits")
    batched = BatchedTrainer().start(task, [0], [0.1]).program.measures
    assert not isinstance(batched.by_name["loss"], nn.Module)
    assert isinstance(task.measures_on(torch.device("cpu")).by_name["loss"], nn.CrossEntropyLoss)
