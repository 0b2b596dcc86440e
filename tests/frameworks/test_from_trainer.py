"""A Hugging Face Trainer trains in lrfinder as it trains itself, and stands as it stood."""

import copy
import os
import warnings

import numpy as np
import pytest
import torch
from small_tasks import no_global_draw, plan
from torch.utils.data import Dataset, IterableDataset

from lrfinder.errors import InvalidArgument
from lrfinder.range_tests.range_test import range_test
from lrfinder.tasks.task import Task
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.training.trainers.sequential import SequentialTrainer

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
LR, WORDS, LENGTH = 1e-2, 20, 8


class Sentences(Dataset):
    """Random words; the label says whether word 3 is among them. Every other has padding."""

    def __init__(self, count=32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.words = torch.randint(1, WORDS, (count, LENGTH), generator=generator)
        self.words[::2, -3:] = 0

    def __len__(self):
        return len(self.words)

    def __getitem__(self, k):
        words = self.words[k]
        label = int((words == 3).any())
        return {"input_ids": words, "attention_mask": (words > 0).long(), "labels": label}


class Texts(Sentences):
    """The same for a language model."""

    def __getitem__(self, k):
        words = self.words[k]
        return {"input_ids": words, "labels": torch.where(words > 0, words, -100)}


def classifier():
    config = transformers.DistilBertConfig(
        vocab_size=WORDS,
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        dropout=0.0,
        attention_dropout=0.0,
        seq_classif_dropout=0.0,
        max_position_embeddings=LENGTH,
    )
    torch.manual_seed(0)
    return transformers.DistilBertForSequenceClassification(config)


def language_model():
    config = transformers.GPT2Config(
        vocab_size=WORDS,
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=LENGTH,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def trainer_of(folder, model=None, data=Sentences, optimizers=(None, None), kind=None, **options):
    arguments = {
        "learning_rate": LR,
        "lr_scheduler_type": "constant",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "weight_decay": 0.1,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    args = transformers.TrainingArguments(str(folder), **{**arguments, **options})
    return (kind or transformers.Trainer)(
        model or classifier(),
        args,
        train_dataset=data(),
        eval_dataset=data(seed=1),
        optimizers=optimizers,
    )


def transformers_own(trainer):
    """Weights, and the lr and clipped norm of each update, of the Trainer's own training."""
    lrs = []

    class Watch(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **given):
            lrs.append([group["lr"] for group in given["optimizer"].param_groups])

    trainer.add_callback(Watch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}, np.array(lrs)


def ours(task, lr=LR, schedule=None):
    """The final weights of lrfinder's training, and its history."""
    weights = {}

    class Keeping(SequentialTrainer):
        def advance(self, state, lrs):
            losses = super().advance(state, lrs)
            weights.update(state.runs[0].model.state_dict())
            return losses

    plans = [plan(lr, 0) if schedule is None else Plan(lr, schedule, 0)]
    return weights, fit(task, plans, trainer=Keeping())


CASES = {
    "classifier": {},
    "clipped hard": {"max_grad_norm": 0.01},
    "without clipping": {"max_grad_norm": 0.0},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "a number of steps": {"max_steps": 6, "num_train_epochs": 1},
    "accumulation": {"gradient_accumulation_steps": 2},
    "accumulation by SGD": {"gradient_accumulation_steps": 4, "optim": "sgd"},
    "language model, accumulation": {
        "model": language_model,
        "data": Texts,
        "gradient_accumulation_steps": 2,
        "optim": "sgd",
    },
    "language model": {"model": language_model, "data": Texts},
    "language model, smoothed": {
        "model": language_model,
        "data": Texts,
        "label_smoothing_factor": 0.1,
    },
    "SGD": {"optim": "sgd", "learning_rate": 0.1},
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_bitwise_the_trainers_own(case, tmp_path):
    options = dict(CASES[case])
    model = options.pop("model", classifier)
    task = Task.from_trainer(trainer_of(tmp_path, model(), **options))
    lr = options.get("learning_rate", LR)
    weights, history = ours(task, lr)
    theirs, lrs = transformers_own(trainer_of(tmp_path, model(), **options))
    np.testing.assert_array_equal(history.lr[0][: len(lrs)], lrs)
    assert len(lrs) == history.lr.shape[1]
    assert weights.keys() == theirs.keys()
    near = task.accumulate > 1  # sums in another order
    same = torch.allclose if near else torch.equal
    assert all(same(weights[k], theirs[k]) for k in theirs)
    assert task.baseline.lr == lr


def test_another_lr_ends_elsewhere(tmp_path):
    task = Task.from_trainer(trainer_of(tmp_path))
    (one, _), (other, _) = ours(task), ours(task, 2 * LR)
    assert not all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler_type": "linear", "warmup_steps": 3},
        {"lr_scheduler_type": "cosine"},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-3}},
    ],
)
def test_scheduler_of_the_trainer_is_the_baseline(options, tmp_path):
    task = Task.from_trainer(trainer_of(tmp_path, **options))
    theirs, lrs = transformers_own(trainer_of(tmp_path, **options))
    weights, history = ours(task, task.baseline.lr, task.baseline.schedule)
    np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
    assert all(torch.allclose(weights[k], theirs[k], atol=1e-6) for k in theirs)


def test_a_plateau_of_the_trainer_is_stepped_by_epoch(tmp_path):
    trainer = trainer_of(tmp_path, lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")
    baseline = Task.from_trainer(trainer).baseline
    assert baseline.schedule.stepped_per == "epoch"
    assert baseline.schedule.family.by_measure


def test_given_optimizer_and_scheduler_are_used(tmp_path):
    def given():
        model = classifier()
        optimizer = torch.optim.SGD(model.parameters(), 0.3, momentum=0.5)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t))
        return trainer_of(tmp_path, model, optimizers=(optimizer, scheduler))

    task = Task.from_trainer(given())
    theirs, lrs = transformers_own(given())
    weights, history = ours(task, task.baseline.lr, task.baseline.schedule)
    np.testing.assert_allclose(history.lr[0], lrs, rtol=1e-12)
    assert all(torch.allclose(weights[k], theirs[k], atol=1e-6) for k in theirs)


def test_own_compute_loss_is_used(tmp_path):
    class Doubled(transformers.Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **given):
            found = super().compute_loss(model, inputs, return_outputs, **given)
            return (2 * found[0], found[1]) if return_outputs else 2 * found

    options = {"optim": "sgd", "learning_rate": 0.1}
    task = Task.from_trainer(trainer_of(tmp_path, kind=Doubled, **options))
    theirs, _ = transformers_own(trainer_of(tmp_path, kind=Doubled, **options))
    weights, _ = ours(task, 0.1)
    assert all(torch.equal(weights[k], theirs[k]) for k in theirs)


def test_compute_metrics_are_measures(tmp_path):
    def accuracy(found):
        right = found.predictions.argmax(1) == found.label_ids
        return {"accuracy": right.mean(), "rows": len(right)}

    trainer = trainer_of(tmp_path, per_device_eval_batch_size=5)
    trainer.compute_metrics = accuracy
    task = Task.from_trainer(trainer)
    assert task.measures == ("loss", "accuracy", "rows")
    _, history = ours(task)
    theirs = trainer.evaluate()
    assert history.measures["accuracy"][0][0] == theirs["eval_accuracy"]
    assert history.measures["rows"][0][0] == 32
    assert history.measures["loss"][0][0] == pytest.approx(theirs["eval_loss"], rel=1e-5)


def test_model_init_builds_other_weights_for_each_seed(tmp_path):
    args, config = trainer_of(tmp_path).args, classifier().config
    trainer = transformers.Trainer(
        args=args,
        model_init=lambda: transformers.DistilBertForSequenceClassification(config),
        train_dataset=Sentences(),
        eval_dataset=Sentences(seed=1),
    )
    task = Task.from_trainer(trainer)
    first, again, other = (next(task.built(k).parameters()) for k in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_of_the_callers_is_changed(tmp_path):
    trainer = trainer_of(tmp_path)
    before = copy.deepcopy(trainer.model.state_dict())
    held, args = dict(vars(trainer)), trainer.args.to_dict()
    of_accelerator = dict(vars(trainer.accelerator))
    with no_global_draw(), warnings.catch_warnings():
        warnings.simplefilter("error")
        task = Task.from_trainer(trainer)
        range_test(task, steps=9, seeds=1, max_lr=0.1, probes=0)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert vars(trainer).keys() == held.keys()
    assert all(vars(trainer)[k] is held[k] for k in held)
    assert all(vars(trainer.accelerator)[k] is v for k, v in of_accelerator.items())
    assert trainer.args.to_dict() == args
    assert all(p.grad is None for p in trainer.model.parameters())


class OwnStep(transformers.Trainer):
    def training_step(self, *given, **named):
        return super().training_step(*given, **named)


@pytest.mark.parametrize(
    ("says", "make"),
    [
        ("its eval_dataset is None", lambda t: setattr(t, "eval_dataset", None)),
        ("its train_dataset is None", lambda t: setattr(t, "train_dataset", None)),
        ("several: a, b", lambda t: setattr(t, "eval_dataset", {"a": Sentences(), "b": Texts()})),
        ("got fp16=True", lambda t: setattr(t.args, "fp16", True)),
        ("overwrite compute_loss", lambda t: setattr(t, "__class__", OwnStep)),
    ],
)
def test_bad_trainers_are_told_in_one_line(says, make, tmp_path):
    trainer = trainer_of(tmp_path)
    make(trainer)
    with pytest.raises(InvalidArgument, match=says) as raised:
        Task.from_trainer(trainer)
    assert "\n" not in str(raised.value)


class Stream(IterableDataset):
    """Rows without a length."""

    def __init__(self, **_):
        self.rows = Sentences()

    def __iter__(self):
        return (self.rows[k] for k in range(len(self.rows)))


@pytest.mark.parametrize(("max_steps", "epochs"), [(12, 6), (20, 10), (13, 1)])
def test_a_stream_trains_for_max_steps(max_steps, epochs, tmp_path):
    trainer = trainer_of(tmp_path, max_steps=max_steps)
    trainer.train_dataset = Stream()
    task = Task.from_trainer(trainer)
    assert (task.updates, task.epochs, task.per) == (max_steps, epochs, "batch")
    assert len(fit(task, [plan(LR)]).lr[0]) == max_steps


def test_a_stream_without_max_steps_is_told(tmp_path):
    trainer = trainer_of(tmp_path)
    trainer.train_dataset = Stream()
    with pytest.raises(
        InvalidArgument, match=r"unknown length; give TrainingArguments\(max_steps="
    ):
        Task.from_trainer(trainer)


def test_what_is_no_trainer_is_told():
    with pytest.raises(InvalidArgument, match="but got a Linear"):
        Task.from_trainer(torch.nn.Linear(2, 2))
