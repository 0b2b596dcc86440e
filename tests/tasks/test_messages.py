"""What the user's code raises becomes one line of a readable length."""

import pytest
import torch
from small_tasks import linear_task, plan
from torch import nn
from torch.utils.data import TensorDataset

from lrfinder.errors import TaskFailed
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe, shortened
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit

LONGEST = 310


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("", ""),
        ("short", "short"),
        ("Two sentences.\n  They stay.", "Two sentences. They stay."),
        ("The first sentence of many. " + "More of them. " * 99, "The first sentence of many."),
        ("e.g. version 1.2 of a.b.c fails here. " + "And so on " * 99, None),
        ("x" * 5000, "x" * 300 + " ..."),
        ("word " * 5000, None),
    ],
)
def test_long_messages_are_cut_to_their_first_sentence(message, line):
    found = shortened(message)
    assert len(found) <= LONGEST
    assert "\n" not in found
    assert line is None or found == line


def test_a_full_stop_inside_a_sentence_does_not_end_it():
    text = "e.g. version 1.2 of a.b.c fails here."
    assert shortened(f"{text} {'And so on ' * 99}") == text


def test_an_exception_without_a_message_has_its_type():
    assert describe(ValueError()) == "ValueError"


def sparse_task() -> Task:
    words = torch.randint(9, (40,), generator=torch.Generator().manual_seed(0))
    return Task(
        model=lambda: nn.Sequential(nn.Embedding(9, 3, sparse=True), nn.Linear(3, 1)),
        train=TensorDataset(words, torch.zeros(40, 1)),
        valid=TensorDataset(words, torch.zeros(40, 1)),
        criterion=nn.MSELoss(),
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
        clip_norm=1.0,
    )


def test_a_message_of_torch_about_its_backends_is_cut():
    with pytest.raises(TaskFailed, match="Sparse") as error:
        fit(sparse_task(), [plan()])
    assert len(str(error.value)) < LONGEST + 100
    why_not = BatchedTrainer().why_not(sparse_task())
    assert why_not is None or len(why_not) <= LONGEST


def test_the_place_in_the_users_code_follows_a_message_that_was_cut():
    def loss(model, batch):
        raise RuntimeError("No way. " * 1000)

    with pytest.raises(TaskFailed, match=r"\(test_messages.py, line \d+\)$"):
        fit(linear_task(criterion=None, loss=loss), [plan()])
