"""Generators and epochs that data keep for themselves: one (seed, epoch), one order, none moved."""

import functools
import os
import random
from itertools import islice

import numpy as np
import pytest
import torch
from small_tasks import (
    BATCH,
    linear_model,
    linear_task,
    no_global_draw,
    plain_sgd,
    plan,
    regression_rows,
)
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    default_collate,
)

from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.data.batches import alike
from lrfinder.tasks.data.sources import evaluation_batches, fixed_subset, training_source
from lrfinder.tasks.state.own_generators import find_generators
from lrfinder.tasks.task import Task
from lrfinder.training.batched.trainer import BatchedTrainer
from lrfinder.training.fit import fit
from lrfinder.training.trainers.sequential import SequentialTrainer

GENERATORS = {
    "torch": lambda: torch.Generator().manual_seed(3),
    "numpy": lambda: np.random.default_rng(3),
    "numpy MT19937": lambda: np.random.Generator(np.random.MT19937(3)),
    "numpy Philox": lambda: np.random.Generator(np.random.Philox(3)),
    "numpy SFC64": lambda: np.random.Generator(np.random.SFC64(3)),
    "numpy RandomState": lambda: np.random.RandomState(3),
    "numpy RandomState of PCG64": lambda: np.random.RandomState(np.random.PCG64(3)),
    "python": lambda: random.Random(3),
}


def draw(generator) -> float:
    if isinstance(generator, torch.Generator):
        return float(torch.randn((), generator=generator))
    if isinstance(generator, random.Random):
        return generator.gauss(0, 1)
    return float(generator.standard_normal())


def state_of(generator) -> str:
    if isinstance(generator, torch.Generator):
        return str(generator.get_state().tolist())
    if isinstance(generator, random.Random):
        return str(generator.getstate())
    if isinstance(generator, np.random.Generator):
        return str(generator.bit_generator.state)
    return str(generator.get_state(legacy=False))


class Noisy(Dataset):
    """Rows with noise of the generator that is in its pocket."""

    def __init__(self, pocket, look=lambda pocket: pocket) -> None:
        self.pocket, self.look, self.rows = pocket, look, list(regression_rows(23))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        x, y = self.rows[index]
        return x + draw(self.look(self.pocket)), y


class Stream(IterableDataset):
    def __init__(self, generator) -> None:
        self.generator = generator

    def __iter__(self):
        return ((x + draw(self.generator), y) for x, y in regression_rows(23))


class Add:
    __slots__ = ("generator",)

    def __init__(self, generator) -> None:
        self.generator = generator

    def __call__(self, x):
        return x + draw(self.generator)


class Transformed(Dataset):
    def __init__(self, rows, *transforms) -> None:
        self.rows, self.transforms = rows, list(transforms)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        x, y = self.rows[index]
        for transform in self.transforms:
            x = transform(x)
        return x, y


class Shuffled:
    """A sampler or, in batches, a batch sampler."""

    def __init__(self, generator, size: int | None = None) -> None:
        self.generator, self.size = generator, size

    def __iter__(self):
        order = sorted(range(23), key=lambda _: draw(self.generator))
        if self.size is None:
            return iter(order)
        return iter([order[k : k + self.size] for k in range(0, 23, self.size)])

    def __len__(self) -> int:
        return 23 if self.size is None else -(-23 // self.size)


def with_noise(rows, generator):
    x, y = default_collate(rows)
    return x + draw(generator), y


class Collator:
    def __init__(self, generator) -> None:
        self.inner = {"generator": generator}

    def collate(self, rows):
        return with_noise(rows, self.inner["generator"])

    __call__ = collate


class OfClass(Noisy):
    """Looks at a generator that its class has."""

    generator = None

    def __getitem__(self, index: int):
        x, y = self.rows[index]
        return x + draw(self.generator), y


GLOBAL = None


def with_global_noise(rows):
    return with_noise(rows, GLOBAL)


def loader(rows=None, **given) -> DataLoader:
    return DataLoader(rows or regression_rows(23), **{"batch_size": 5, **given})


def in_closure(generator):
    def collate(rows):
        return with_noise(rows, generator)

    return collate


def of_class(generator):
    OfClass.generator = generator
    return OfClass(None)


def as_global(generator):
    global GLOBAL
    GLOBAL = generator
    return with_global_noise


PLACES = {
    "data set": lambda g: loader(Noisy(g)),
    "list in a data set": lambda g: loader(Noisy([1, g], lambda p: p[1])),
    "dict in a data set": lambda g: loader(Noisy({"a": (g,)}, lambda p: p["a"][0])),
    "subset": lambda g: loader(Subset(Subset(Noisy(g), range(22)), range(20))),
    "one of two data sets": lambda g: loader(
        ConcatDataset([regression_rows(5), Noisy(g)]), shuffle=True
    ),
    "transform with slots": lambda g: loader(Transformed(regression_rows(23), abs, Add(g))),
    "lambda of a transform": lambda g: loader(
        Transformed(regression_rows(23), lambda x: x + draw(g))
    ),
    "class of the data set": lambda g: loader(of_class(g)),
    "stream": lambda g: loader(Stream(g)),
    "sampler": lambda g: loader(sampler=Shuffled(g)),
    "batch sampler": lambda g: loader(batch_size=1, batch_sampler=Shuffled(g, 5)),
    "sampler of a batch sampler": lambda g: loader(
        batch_size=1, batch_sampler=BatchSampler(Shuffled(g), 5, drop_last=False)
    ),
    "closure": lambda g: loader(collate_fn=in_closure(g)),
    "partial": lambda g: loader(collate_fn=functools.partial(with_noise, generator=g)),
    "default argument": lambda g: loader(collate_fn=lambda rows, g=g: with_noise(rows, g)),
    "bound method": lambda g: loader(collate_fn=Collator(g).collate),
    "callable object": lambda g: loader(collate_fn=Collator(g)),
    "partial in a partial": lambda g: loader(
        collate_fn=functools.partial(lambda collate, rows: collate(rows), Collator(g).collate)
    ),
    "global name": lambda g: loader(collate_fn=as_global(g)),
    "data set read by lrfinder": Noisy,
    "stream read by lrfinder": Stream,
}
CASES = [(place, "numpy") for place in PLACES] + [("data set", kind) for kind in GENERATORS]
cases = pytest.mark.parametrize(("place", "kind"), CASES)


def made(place: str, kind: str):
    generator = GENERATORS[kind]()
    return PLACES[place](generator), generator


def source_of(data):
    return training_source(data, 5, batches=5)


def same(a, b) -> bool:
    return len(a) == len(b) and all(map(alike, a, b))


@cases
def test_batches_are_a_function_of_seed_and_epoch(place, kind):
    data, generator = made(place, kind)
    first = list(source_of(data).epoch(7, 0))
    draw(generator)
    assert same(list(source_of(data).epoch(7, 0)), first)
    assert not same(list(source_of(data).epoch(7, 1)), first)
    assert not same(list(source_of(data).epoch(8, 0)), first)
    other, _ = made(place, kind)
    assert same(list(source_of(other).epoch(7, 0)), first)


@cases
def test_epochs_that_are_read_in_turns_are_what_they_are_alone(place, kind):
    data, generator = made(place, kind)
    source = source_of(data)
    alone = [list(source.epoch(seed, 0)) for seed in (7, 8)]
    turns = zip(*(source.epoch(seed, 0) for seed in (7, 8)), strict=True)
    pairs = []
    for pair in turns:
        draw(generator)
        pairs.append(pair)
    assert same([a for a, _ in pairs], alone[0])
    assert same([b for _, b in pairs], alone[1])


@cases
def test_the_callers_generator_does_not_move(place, kind):
    data, generator = made(place, kind)
    before = state_of(generator)
    with no_global_draw():
        source = source_of(data)
        list(source.epoch(0, 0))
        list(islice(source.epoch(1, 0), 2))  # and one that is left in the middle
        list(evaluation_batches(data, 5, None))
        fixed_subset(data, 5, None)
        linear_task(train=data, steps_per_epoch=4).data().notes()
    assert state_of(generator) == before


@cases
def test_such_data_are_not_reported(place, kind):
    data, _ = made(place, kind)
    notes = linear_task(train=data, valid=data, steps_per_epoch=4, batch_size=5).data().notes()
    assert notes == []


@cases
def test_evaluations_are_the_same_at_every_reading(place, kind):
    data, generator = made(place, kind)
    first = fixed_subset(data, 5, None), list(evaluation_batches(data, 5, None))
    draw(generator)
    again = fixed_subset(data, 5, None), list(evaluation_batches(data, 5, None))
    assert same(first[0], again[0])
    assert same(first[1], again[1])


def test_several_generators_draw_different_numbers():
    class Both(Noisy):
        def __getitem__(self, index: int):
            return [draw(generator) for generator in self.pocket]

    data = Both([np.random.default_rng(3), np.random.default_rng(3)])
    first = next(source_of(data).epoch(0, 0))
    assert not torch.equal(first[0], first[1])


def test_the_global_generators_are_not_swapped_twice():
    own = [random._inst, np.random.mtrand._rand, torch.default_generator]
    assert find_generators(own) == []


def test_the_search_ends_in_circles_and_among_many_objects():
    circle: list = [np.random.default_rng(0)]
    circle.append(circle)
    many = [[k] for k in range(10**5)]
    assert len(find_generators(many, circle, many)) == 1


TRAINERS = pytest.mark.parametrize("trainer", [SequentialTrainer, BatchedTrainer])


@TRAINERS
@pytest.mark.parametrize("place", ["data set", "sampler", "closure"])
def test_the_same_plan_gives_the_same_result_in_any_order(place, trainer):
    data, _ = made(place, "numpy")
    task = linear_task(train=data, steps_per_epoch=4)
    alone = [fit(task, [plan(seed=k)], trainer=trainer()).train_loss for k in (0, 1)]
    both = fit(task, [plan(seed=1), plan(seed=0)], trainer=trainer()).train_loss
    assert both[1].tolist() == pytest.approx(alone[0][0].tolist(), rel=1e-9)
    assert both[0].tolist() == pytest.approx(alone[1][0].tolist(), rel=1e-9)


@TRAINERS
def test_a_range_test_is_repeated_to_the_last_bit(trainer):
    data, generator = made("data set", "numpy")
    task = linear_task(train=data, valid=data)
    curves = [range_test(task, steps=10, seeds=1, trainer=trainer()) for _ in range(2)]
    assert curves[0].loss.tolist() == curves[1].loss.tolist()
    assert [p.loss for p in curves[0].probes] == [p.loss for p in curves[1].probes]
    assert state_of(generator) == state_of(GENERATORS["numpy"]())


def test_live_objects_keep_their_generators():
    data, generator = made("data set", "python")
    before = state_of(generator)
    model = linear_model()
    task = Task.from_objects(model, plain_sgd(model, 0.01), torch.nn.MSELoss(), data, data)
    first = fit(task, [plan()]).train_loss
    assert fit(task, [plan()]).train_loss.tolist() == first.tolist()
    assert state_of(generator) == before


def test_batches_to_evaluate_on_may_be_a_loader_with_a_generator():
    data, generator = made("closure", "numpy")
    before = state_of(generator)
    found = [fit(linear_task(), [plan()], updates=2, evaluate_on=data) for _ in range(2)]
    assert found[0].measures["loss"].tolist() == found[1].measures["loss"].tolist()
    assert state_of(generator) == before


# what cannot be reached


class FromTheSystem(Noisy):
    def __getitem__(self, index: int):
        x, y = self.rows[index]
        return x + int.from_bytes(os.urandom(2), "big") / 2**16, y


class NewEveryTime(Noisy):
    def __getitem__(self, index: int):
        x, y = self.rows[index]
        return x + np.random.default_rng().standard_normal(), y


class Counting(Noisy):
    count = 0

    def __getitem__(self, index: int):
        self.count += 1
        return self.rows[index][0] + self.count, self.rows[index][1]


def running(generator):
    """A transform that draws from a generator function, in whose frame the generator is."""
    numbers = (draw(generator) for _ in iter(int, 1))
    return lambda x: x + next(numbers)


def secret(generator):
    return lambda x: x + generator.random()


OUT_OF_REACH = {
    "system": lambda: FromTheSystem(None),
    "new at every row": lambda: NewEveryTime(None),
    "counter": lambda: Counting(None),
    "secrets": lambda: Transformed(regression_rows(23), secret(random.SystemRandom())),
    "running generator": lambda: Transformed(
        regression_rows(23), running(np.random.default_rng(0))
    ),
}


@pytest.mark.parametrize("name", OUT_OF_REACH)
@pytest.mark.parametrize("role", ["train", "valid", "both"])
def test_data_that_cannot_be_repeated_are_reported_once(name, role):
    data = OUT_OF_REACH[name]()
    fields = dict.fromkeys(["train", "valid"] if role == "both" else [role], data)
    notes = [note for note in linear_task(**fields).data().notes() if "repeatable" in note]
    assert len(notes) == 1


def test_a_generator_that_is_made_at_the_first_row_is_controlled_from_then_on():
    class Late(Noisy):
        def __getitem__(self, index: int):
            self.pocket = self.pocket or np.random.default_rng()
            return super().__getitem__(index)

    assert linear_task(train=Late(None)).data().notes() == []


# set_epoch


class ByEpoch:
    """A sampler as in distributed training: the order depends on a number that it is told."""

    def __init__(self, size: int | None = None) -> None:
        self.seed, self.epoch, self.size, self.told = 0, 0, size, []

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.told = [*self.told, epoch]

    def __iter__(self):
        order = np.random.default_rng(self.seed + self.epoch).permutation(23).tolist()
        if self.size is None:
            return iter(order)
        return iter([order[k : k + self.size] for k in range(0, 23, self.size)])

    def __len__(self) -> int:
        return 23 if self.size is None else -(-23 // self.size)


class OrderMadeWhenTold(ByEpoch):
    """Its order is made in set_epoch, from a generator that is made there too."""

    def __init__(self) -> None:
        super().__init__()
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.rng = np.random.default_rng(epoch)
        self.order = self.rng.permutation(23).tolist()

    def __iter__(self):
        return iter(self.order)


class Legacy(ByEpoch):
    """Seeds NumPy's legacy generator, which takes 32 bits."""

    def __iter__(self):
        return iter(np.random.RandomState(self.epoch).permutation(23).tolist())


class TellingLoader(DataLoader):
    """Tells its sampler a number of its own at every iteration, as Accelerate's loaders do."""

    iteration = 0

    def __iter__(self):
        self.set_epoch(self.iteration)
        yield from super().__iter__()
        self.iteration += 1

    def set_epoch(self, epoch: int) -> None:
        self.iteration = epoch
        self.sampler.set_epoch(epoch)


class ShuffledStream(IterableDataset):
    """Keeps its epoch in a tensor that is changed in place, as streams of Hugging Face do."""

    def __init__(self) -> None:
        self.epoch = torch.tensor(0)

    def set_epoch(self, epoch: int) -> None:
        self.epoch += epoch - self.epoch

    def __iter__(self):
        order = np.random.default_rng(int(self.epoch)).permutation(23)
        rows = list(regression_rows(23))
        return iter([rows[k] for k in order])


def distributed(**given):
    return DistributedSampler(regression_rows(23), num_replicas=1, rank=0, **given)


TOLD = {
    "DistributedSampler": lambda: loader(sampler=distributed()),
    "sampler": lambda: loader(sampler=ByEpoch()),
    "sampler with an order": lambda: loader(sampler=OrderMadeWhenTold()),
    "sampler of 32 bits": lambda: loader(sampler=Legacy()),
    "batch sampler": lambda: loader(batch_size=1, batch_sampler=ByEpoch(5)),
    "sampler of a batch sampler": lambda: loader(
        batch_size=1, batch_sampler=BatchSampler(ByEpoch(), 5, drop_last=False)
    ),
    "loader": lambda: TellingLoader(regression_rows(23), 5, sampler=ByEpoch()),
    "stream": lambda: loader(ShuffledStream()),
    "stream read by lrfinder": ShuffledStream,
}
told = pytest.mark.parametrize("name", TOLD)


def kept_by(data) -> list[dict[str, str]]:
    parts = [data, *(getattr(data, k, None) for k in ("dataset", "sampler", "batch_sampler"))]
    parts.append(getattr(getattr(data, "batch_sampler", None), "sampler", None))
    return [{k: str(v) for k, v in vars(part).items()} for part in parts if part is not None]


@told
def test_a_number_of_seed_and_epoch_is_told_to_what_wants_one(name):
    first = list(source_of(TOLD[name]()).epoch(7, 0))
    data = TOLD[name]()
    assert same(list(source_of(data).epoch(7, 0)), first)
    assert not same(list(source_of(data).epoch(7, 1)), first)
    assert not same(list(source_of(data).epoch(8, 0)), first)
    assert same(list(source_of(data).epoch(7, 0)), first)


@told
def test_orders_that_are_told_do_not_mix(name):
    source = source_of(TOLD[name]())
    alone = [list(source.epoch(seed, 0)) for seed in (7, 8)]
    pairs = list(zip(*(source.epoch(seed, 0) for seed in (7, 8)), strict=True))
    assert same([a for a, _ in pairs], alone[0])
    assert same([b for _, b in pairs], alone[1])


@told
def test_what_was_told_is_taken_back(name):
    data = TOLD[name]()
    before = kept_by(data)
    source = source_of(data)
    list(source.epoch(0, 0))
    list(islice(source.epoch(1, 0), 2))
    assert kept_by(data) == before


@told
def test_data_that_are_told_epochs_are_not_reported(name):
    task = linear_task(train=TOLD[name](), steps_per_epoch=4, batch_size=5)
    assert task.data().notes() == []


@TRAINERS
@told
def test_seeds_differ_where_the_order_is_told(name, trainer):
    task = linear_task(train=TOLD[name](), steps_per_epoch=4, batch_size=5)
    history = fit(task, [plan(seed=k) for k in (0, 1)], trainer=trainer())
    again = fit(task, [plan(seed=k) for k in (0, 1)], trainer=trainer())
    assert history.train_loss[0].tolist() != history.train_loss[1].tolist()
    assert history.train_loss.tolist() == again.train_loss.tolist()


def test_worker_processes_see_the_epoch_in_a_shared_tensor():
    stream = ShuffledStream()
    stream.epoch.share_memory_()
    expected = list(source_of(ShuffledStream()).epoch(7, 0))
    given = source_of(loader(stream, num_workers=1)).epoch(7, 0)
    assert same(list(given), expected)
    assert int(stream.epoch) == 0


def test_an_evaluation_is_told_nothing():
    data = TOLD["sampler"]()
    list(evaluation_batches(data, 5, None))
    fixed_subset(data, 5, None)
    assert data.sampler.told == []


@pytest.mark.parametrize(
    ("data", "cure"),
    [
        (lambda: loader(), "shuffle=True in the DataLoader mends"),
        (lambda: loader(Stream(None)), "stream that shuffles"),
        (lambda: loader(sampler=distributed(shuffle=False)), "a DistributedSampler that draws"),
        (lambda: loader(batch_size=1, batch_sampler=Fixed()), "a Fixed that draws"),
    ],
)
def test_the_note_on_a_fixed_order_names_what_mends_it(data, cure, monkeypatch):
    monkeypatch.setattr(f"{__name__}.draw", lambda generator: 0.0)
    [note] = linear_task(train=data(), steps_per_epoch=4).data().notes()
    assert "same order" in note
    assert cure in note


class Fixed:
    def __iter__(self):
        return iter([[0, 1], [2, 3]])

    def __len__(self) -> int:
        return 2


def test_an_order_is_compared_in_all_parts_of_a_batch():
    """The first tensor of each batch is the same: a mask."""

    def collate(rows):
        x, y = default_collate(rows)
        return {"mask": torch.ones(len(x)), "x": x, "y": y}

    data = loader(shuffle=True, collate_fn=collate, drop_last=True)
    loss = {"criterion": None, "loss": lambda m, b: (m(b["x"]) - b["y"]).pow(2).mean()}
    assert linear_task(train=data, **loss).data().notes() == []


def test_workers_hold_the_same_generators():
    data = loader(Noisy(np.random.default_rng(3)), num_workers=1)
    source = source_of(data)
    first = list(source.epoch(7, 0))
    assert same(list(source.epoch(7, 0)), first)
    assert not same(list(source.epoch(8, 0)), first)


def test_samplers_of_torch_still_shuffle_rows_and_every_row_comes_once():
    own = torch.Generator().manual_seed(1)
    rows = regression_rows(BATCH)
    data = DataLoader(rows, 4, sampler=RandomSampler(rows, generator=own), generator=own)
    seen = torch.cat([y for _, y in training_source(data, 4).epoch(0, 0)])
    assert sorted(seen.flatten().tolist()) == sorted(rows.tensors[1].flatten().tolist())
    assert type(loader().sampler) is SequentialSampler


CURES = {
    "skorch": "iterator_train__shuffle=True",
    "lightning": "train_dataloader",
    "transformers": "sampler of the Trainer's",
}


@pytest.mark.parametrize("kind", CURES)
def test_the_note_on_a_fixed_order_names_what_the_kind_of_program_has(kind):
    [note] = linear_task(train=loader(), code_for=kind).data().notes()
    assert CURES[kind] in note
    assert kind == "lightning" or "DataLoader" not in note


def test_drawn_batches_that_are_always_the_same_are_told_of_random_numbers():
    fields = {"train": None, "batches": lambda: (torch.ones(4, 1), torch.ones(4, 1)), "updates": 9}
    [note] = linear_task(**fields).data().notes()
    assert "drawing them by torch's, NumPy's or Python's global random numbers mends" in note
