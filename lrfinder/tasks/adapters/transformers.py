"""A Task from a Trainer of Hugging Face Transformers.

Every run trains a copy of the Trainer's model, or a new one of its `model_init`, with its collator,
`compute_loss` and optimizer. All of it is asked of a shallow copy of the Trainer, which takes the
marks that its methods leave; the Trainer itself is not touched.
"""

import copy
import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from lrfinder.errors import InvalidArgument
from lrfinder.tasks.adapters.lengths import (
    batches_if_known,
    batches_of,
    updates_per_epoch,
    whole_epochs,
)
from lrfinder.tasks.adapters.optimizers import baseline_of, peak_lrs, with_lr
from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.baseline import Baseline, of_scheduler
from lrfinder.tasks.fields.lengths import EPOCHS
from lrfinder.tasks.fields.task_checks import fitting_name
from lrfinder.tasks.fields.whole_measures import Evaluate
from lrfinder.tasks.from_objects import factories
from lrfinder.tasks.state.optimizer_copies import copied_model, unwrapped
from lrfinder.tasks.state.random_states import kept
from lrfinder.tasks.user_code import shortened, user_code

_SHAPES_THE_UPDATE = ("training_step",)


def fields_of(trainer: Any, fields: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 (a Trainer)
    """Fields of a Task; `fields` are those that the caller gives, which are left out.

    Raises InvalidArgument where the Trainer, its data or its settings cannot be used.
    """
    _check(trainer)
    args = trainer.args
    with kept():
        worker = _worker(trainer)
        with user_code("building the loaders"):
            train = worker.get_train_dataloader()
            valid = worker.get_eval_dataloader()
        updates, length = _length(train, args)
        model, optimizer, baseline = _trained(worker, fields, updates)

    return {
        "model": model,
        "optimizer": optimizer,
        "loss": _loss_by(worker),
        "train": train,
        "valid": valid,
        **length,
        "accumulate": args.gradient_accumulation_steps,
        "clip_norm": args.max_grad_norm or None,
        "autocast": torch.bfloat16 if args.bf16 else None,
        "evaluate": _evaluate_by(worker, valid),
        "code_for": "transformers",
        "name": fitting_name(type(trainer.model).__name__),
        **baseline,
    }


def _length(train: Any, args: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
    """Updates of the training, and its length as fields of a Task."""
    if args.max_steps > 0 and batches_if_known(train, "the Trainer") is None:  # a stream
        parts = max(k for k in range(1, EPOCHS + 1) if args.max_steps % k == 0)
        return args.max_steps, {"updates": args.max_steps, "epochs": parts}
    batches = batches_of(train, "the Trainer", "give TrainingArguments(max_steps=...)")
    per_epoch = updates_per_epoch(batches, args.gradient_accumulation_steps)
    epochs_given = math.ceil(args.num_train_epochs * per_epoch)
    updates = args.max_steps if args.max_steps > 0 else epochs_given
    epochs, steps_per_epoch = whole_epochs(updates, per_epoch)
    return updates, {"epochs": epochs, "steps_per_epoch": steps_per_epoch}


def _check(trainer: Any) -> None:  # noqa: ANN401 (whatever was given)
    """Refuse what is no Trainer, or one that makes its updates itself or lacks data."""
    needed = ("compute_loss", "get_train_dataloader", "create_optimizer", "args")
    if not all(hasattr(trainer, name) for name in needed):
        raise InvalidArgument(
            f"trainer must be a transformers.Trainer, but got a {type(trainer).__name__}"
        )
    for name in _SHAPES_THE_UPDATE:
        owner = next(kind for kind in type(trainer).__mro__ if name in vars(kind))
        if not owner.__module__.startswith("transformers."):
            raise InvalidArgument(
                f"the Trainer must leave {name} as it is, but it has one of its own, which would "
                "not be called; overwrite compute_loss instead"
            )
    for name, what in (("train_dataset", "training"), ("eval_dataset", "validation")):
        if getattr(trainer, name) is None:
            raise InvalidArgument(
                f"the Trainer must have {what} data, but its {name} is None; "
                f"give Trainer({name}=...)"
            )
    if isinstance(trainer.eval_dataset, Mapping):
        names = ", ".join(map(str, cast("Mapping[Any, Any]", trainer.eval_dataset)))
        raise InvalidArgument(
            f"the Trainer must have one eval_dataset, but got several: {names}; "
            "give the one to compare by"
        )
    if trainer.args.fp16:
        raise InvalidArgument(
            "the Trainer must train in float32 or bf16, but got fp16=True; use bf16=True"
        )


def _worker(trainer: Any) -> Any:  # noqa: ANN401 (a Trainer)
    """A shallow copy of the Trainer, whose loaders are torch's own."""
    worker = copy.copy(trainer)
    worker.accelerator = copy.copy(trainer.accelerator)
    worker.accelerator.prepare = _as_it_is
    worker.args = copy.copy(trainer.args)
    worker.args.dataloader_persistent_workers = False
    worker.model = trainer.accelerator.unwrap_model(trainer.model)
    return worker


def _as_it_is(loader: Any, **_: Any) -> Any:  # noqa: ANN401
    """In place of Accelerate's preparation: a loader stays torch's own."""
    return loader


def _trained(
    worker: Any,  # noqa: ANN401 (a Trainer)
    fields: Mapping[str, Any],
    updates: int,
) -> tuple[Any, Any, dict[str, Any]]:
    """Factories of the model and the optimizer, and the baseline as a field."""
    given = worker.optimizer
    if given is not None:
        make_model, make_optimizer, _ = factories(worker.model, unwrapped(given), "fresh")
    else:
        make_model, make_optimizer = _own_factories(worker)
    if "baseline" in fields:
        return make_model, make_optimizer, {}
    with user_code("building the optimizer"):
        optimizer = given if given is not None else _optimizer_for(worker, make_model())
    baseline = _baseline(worker, unwrapped(optimizer), updates)
    return make_model, make_optimizer, {"baseline": baseline}


def _own_factories(worker: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Factories where the Trainer builds its optimizer itself."""
    try:
        pristine = copied_model(worker.model, {})
    except Exception as error:
        raise InvalidArgument(
            f"the model must be copyable, but copy.deepcopy raised {shortened(str(error))}; "
            "give Trainer(model_init=...)"
        ) from error
    if not pristine.training:
        pristine.train()
    device = worker.args.device

    def make_model() -> nn.Module:
        if worker.model_init is None:
            return copied_model(pristine, {})
        return worker.call_model_init().to(device).train()

    def make_optimizer(model: nn.Module, lr: float) -> Optimizer:
        return with_lr(_optimizer_for(worker, model), lr)

    return make_model, make_optimizer


def _optimizer_for(worker: Any, model: nn.Module) -> Optimizer:  # noqa: ANN401
    """What the Trainer would train the model with."""
    own = copy.copy(worker)
    own.model, own.optimizer, own.lr_scheduler = model, None, None
    return own.create_optimizer()


def _baseline(worker: Any, optimizer: Optimizer, updates: int) -> Baseline | None:  # noqa: ANN401
    """The lr and the scheduler that the Trainer would train with, stepped after every update.

    One that follows a measure is stepped after every epoch.
    """
    if worker.lr_scheduler is not None:
        return baseline_of(optimizer, worker.lr_scheduler, "batch")
    top = max(peak_lrs(optimizer))
    if top <= 0:
        return None

    def build(optimizer: Optimizer) -> Any:  # noqa: ANN401 (an LRScheduler)
        own = copy.copy(worker)
        own.optimizer = optimizer
        return own.create_scheduler(updates, optimizer)

    return of_scheduler(top, build, "batch")


def _loss_by(worker: Any) -> Any:  # noqa: ANN401
    """The loss of a batch, as the Trainer computes it.

    A Trainer tells most models how many items the accumulated batches hold, and takes their losses
    for parts of a mean, which it sums. Here losses are averaged: so each is told as many items as
    there would be if the other batches had as many, and taken that many times. A model that does
    not use the number is thereby trained on the sum, as the Trainer does.
    """
    count_items = getattr(worker, "_get_num_items_in_batch", None)

    def loss(model: nn.Module, batch: Batch) -> Any:  # noqa: ANN401 (checked where it is used)
        own = copy.copy(worker)
        own.model = own.model_wrapped = model
        inputs = own._prepare_inputs(batch)
        items = None if count_items is None else count_items([inputs], own.args.device)
        parts = own.args.gradient_accumulation_steps if model.training else 1
        if parts == 1 or not _sums(own, items):
            return own.compute_loss(model, inputs, num_items_in_batch=items)
        items = None if items is None else items * parts
        return own.compute_loss(model, inputs, num_items_in_batch=items) * parts

    return loss


def _evaluate_by(worker: Any, valid: Any) -> Evaluate | None:  # noqa: ANN401
    """The measures of `compute_metrics`, where the Trainer has it and it takes the whole set."""
    if worker.compute_metrics is None or getattr(worker.args, "batch_eval_metrics", False):
        return None
    tools: Any = import_module("transformers.trainer_pt_utils")
    prediction: Any = import_module("transformers.trainer_utils").EvalPrediction

    def evaluate(model: nn.Module) -> dict[str, float]:
        own = copy.copy(worker)
        own.model = own.model_wrapped = model
        outputs = labels = None
        for inputs in valid:
            _, found, wanted = own.prediction_step(model, inputs, prediction_loss_only=False)
            if own.preprocess_logits_for_metrics is not None:
                found = own.preprocess_logits_for_metrics(found, wanted)
            outputs = found if outputs is None else tools.nested_concat(outputs, found, -100)
            labels = wanted if labels is None else tools.nested_concat(labels, wanted, -100)
        arrays = [tools.nested_numpify(part) for part in (outputs, labels)]
        values = own.compute_metrics(prediction(*arrays))
        return {fitting_name(name): float(value) for name, value in values.items()}

    return evaluate


def _sums(worker: Any, items: Any) -> bool:  # noqa: ANN401
    """Whether the Trainer sums the losses of accumulated batches."""
    told = getattr(worker, "loss_is_scaled_for_ga", None)
    if told is not None:
        return bool(told)
    takes_items = getattr(worker, "model_accepts_loss_kwargs", False) and items is not None
    return takes_items or getattr(worker, "compute_loss_func", None) is not None
