"""The trainer of a run is chosen by timing, and what was chosen is said."""

import json
import time
from dataclasses import asdict

import pytest
import torch
from pydantic import TypeAdapter
from small_tasks import linear_task, noisy_task
from torch import Tensor, nn

from lrfinder.errors import InvalidArgument
from lrfinder.report.wording import estimate
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.engine import EngineRecord, again, choose
from lrfinder.training.speed import Speed, Work, measure_speed
from lrfinder.training.trainers.sequential import SequentialTrainer

SMALL, LARGE = Work(4, 10, 2), Work(40, 10**9, 2)


class Unbatchable(nn.Module):
    """A linear model that reads its own output as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if y.mean().item() < 1e9 else -y


def test_small_work_is_trained_before_more_could_be_timed():
    engine = choose(linear_task(), None, SMALL)
    assert isinstance(engine.trainer, SequentialTrainer)
    assert {timing.trainer for timing in engine.timings} == {"sequential"}
    assert "small" in engine.reason


def test_large_work_goes_to_the_fastest_of_what_was_timed():
    engine = choose(linear_task(), None, LARGE)
    at_one_thread = [t for t in engine.timings if t.threads == 1]
    assert {t.trainer for t in at_one_thread} == {"sequential", "batched"}
    assert {t.runs for t in at_one_thread} == {1, 8, 40}
    assert engine.chosen in engine.timings
    fastest = min(at_one_thread, key=lambda t: t.speed.seconds(4, 1))
    assert engine.chosen.trainer == fastest.trainer == "batched"  # many times faster here
    assert engine.trainer.capacity(linear_task()) == engine.population


def test_a_task_that_cannot_be_batched_is_trained_sequentially_and_the_reason_said():
    engine = choose(linear_task(model=Unbatchable), None, LARGE)
    assert isinstance(engine.trainer, SequentialTrainer)
    assert "cannot be batched" in engine.reason
    assert "\n" not in engine.reason


def test_asking_for_batches_that_are_not_possible_is_refused_in_one_line():
    with pytest.raises(InvalidArgument, match=r"batched cannot: .*; use --engine auto") as error:
        choose(linear_task(model=Unbatchable), None, SMALL, "batched")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "kind"), [("sequential", SequentialTrainer), ("batched", BatchedTrainer)]
)
@pytest.mark.parametrize("work", [SMALL, LARGE])
def test_what_is_asked_for_is_taken(asked, kind, work):
    engine = choose(noisy_task(), None, work, asked)
    assert isinstance(engine.trainer, kind)
    assert engine.reason == "as asked"


def test_several_threads_are_timed_where_there_are_several():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = choose(linear_task(), None, SMALL)
        assert {timing.threads for timing in engine.timings} == {1, 2}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_record_of_a_choice_holds_every_timing():
    engine = choose(linear_task(), None, SMALL)
    record = engine.record()
    assert record.trainer == "sequential"
    assert record.timings[0].speed.seconds_per_update > 0
    assert set(asdict(record)) == {"trainer", "threads", "workers", "runs", "reason", "timings"}


@pytest.mark.parametrize("work", [SMALL, LARGE])
def test_a_choice_is_made_again_from_its_record(work):
    task = linear_task()
    engine = choose(task, None, work)
    record = TypeAdapter(EngineRecord).validate_python(
        json.loads(json.dumps(asdict(engine.record())))
    )
    same = again(None, record)
    assert type(same.trainer) is type(engine.trainer)
    assert same.trainer.capacity(task) == engine.trainer.capacity(task)
    assert same.record() == engine.record()


def test_workers_divide_the_estimated_time():
    works, speed = {"studies": Work(10, 100, 1)}, Speed(1.0, 0.0)
    assert "about 16.7 min" in estimate(works, speed)
    assert "about 8.3 min" in estimate(works, speed, workers=2)


class Waiting(nn.Module):
    """A linear model that waits, as a process does on a busy machine."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(0.02)
        return self.layer(x)


def test_ways_of_one_thread_are_compared_by_the_time_of_the_processor():
    measured = measure_speed(linear_task(model=Waiting), SequentialTrainer(), 1, 1)
    assert measured.wall.seconds_per_update > 0.02
    assert measured.cpu.seconds_per_update < 0.01


def test_waiting_does_not_change_what_is_chosen():
    """A batched step waits once for all runs, which the wall clock takes for speed."""
    engine = choose(linear_task(model=Waiting), None, LARGE)
    plain = choose(linear_task(), None, LARGE)
    assert type(engine.trainer) is type(plain.trainer)
    ratios = [float(e.reason.split()[0]) for e in (engine, plain)]
    assert ratios[0] < 10 * ratios[1]


@pytest.mark.parametrize("runs", [1, 3])
def test_few_runs_are_trained_one_after_another(runs):
    engine = choose(linear_task(), None, Work(runs, 10**9, 2))
    assert isinstance(engine.trainer, SequentialTrainer)
    assert "fewer than 4 runs" in engine.reason


def test_a_record_without_cpu_times_is_read():
    engine = choose(linear_task(), None, SMALL)
    facts = asdict(engine.record())
    for timing in facts["timings"]:
        del timing["cpu"]
    record = TypeAdapter(EngineRecord).validate_python(facts)
    assert type(again(None, record).trainer) is type(engine.trainer)
