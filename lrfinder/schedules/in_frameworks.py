"""A recipe in the words of a framework, as code to paste.

For torch, as a plain function, for Lightning, Transformers and skorch. Each piece of code makes the
learning rates that lrfinder trained with, update for update. Its ``LR`` is the lr of the optimizer
itself, where that is the same in all groups, even if the task makes it of another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from torch import optim

from lrfinder.errors import InvalidArgument
from lrfinder.schedules.as_function import function_code
from lrfinder.schedules.families.codegen import call, keywords, written
from lrfinder.schedules.recipe import Recipe
from lrfinder.types import CodeKind, Direction

KINDS: tuple[str, ...] = get_args(CodeKind)


@dataclass(frozen=True)
class Answer:
    """The recipe to write down, and the training that it was found for."""

    recipe: Recipe
    epochs: int
    updates_per_epoch: int
    optimizer: str
    """Name of the optimizer's class; of several classes "Adam and SGD"."""
    group_lrs: tuple[float, ...] = ()
    """The lr of each parameter group where the recipe's is asked for; none where they are equal."""
    optimizers: int = 1
    """How many optimizers share the recipe."""
    asked: float | None = None
    """The lr that the task was asked for, where its optimizer makes the recipe's of it."""
    measure: str = "valid_loss"
    """Variable by which a schedule that follows a measure is stepped."""
    direction: Direction = "minimize"

    @property
    def steps(self) -> int:
        """Scheduler steps of the training."""
        per_epoch = 1 if self.recipe.schedule.stepped_per == "epoch" else self.updates_per_epoch
        return self.epochs * per_epoch

    @property
    def is_torchs(self) -> bool:
        """Whether the optimizer is one of torch's."""
        return hasattr(optim, self.optimizer)

    @property
    def lr_is(self) -> str:
        """What the lr of the recipe is, for a comment."""
        if len(set(self.group_lrs)) > 1:
            lrs = " and ".join(f"{lr:.4g}" for lr in self.group_lrs)
            return f"the lr asked for; the groups of your {self.optimizer} are at {lrs}"
        made = "" if self.asked is None else f", which optimizer(model, {self.asked:.6g}) makes"
        return f"lr of your {self.optimizer}{made}"

    def at_own_lr(self) -> "Answer":
        """The answer at the lr that all groups have, where that is not the one asked for."""
        asked, lrs = self.recipe.lr, set(self.group_lrs)
        if len(lrs) != 1 or asked in lrs:
            return self
        return replace(self, recipe=Recipe(lrs.pop(), self.recipe.schedule), asked=asked)


def codes(answer: Answer) -> dict[str, str]:
    """The code of each kind, by its name; those that cannot express the recipe are left out."""
    writers = {
        "torch": _torch,
        "function": _function,
        "lightning": _lightning,
        "transformers": _transformers,
        "skorch": _skorch,
    }
    found: dict[str, str] = {}
    own = answer.at_own_lr()
    for kind in KINDS:
        try:
            found[kind] = writers[kind](own)
        except InvalidArgument:
            continue
    return found


def _torch(answer: Answer) -> str:
    """The optimizer's lr and the scheduler."""
    head = f"import torch\n\nLR = {answer.recipe.lr!r}  # {answer.lr_is}"
    return f"{head}\n{answer.recipe.schedule.code(answer.measure)}"


def _function(answer: Answer) -> str:
    """The function, and where it is called."""
    code = function_code(answer.recipe, answer.steps)
    unit = "epoch" if answer.recipe.schedule.stepped_per == "epoch" else "update"
    return (
        f"{code}\n\n\n# before every {unit} t:\n#     for group in optimizer.param_groups:\n"
        '#         group["lr"] = get_lr(t)  # times its ratio, where groups differ'
    )


def _lightning(answer: Answer) -> str:
    """The method of a LightningModule."""
    schedule, lr = answer.recipe.schedule, answer.recipe.lr
    if answer.optimizers > 1:
        raise InvalidArgument(
            f"{answer.optimizers} optimizers are no single configure_optimizers; "
            "use the code for torch"
        )
    functions, scheduler = _definitions(answer)
    interval = "epoch" if schedule.stepped_per == "epoch" else "step"
    config = f'"scheduler": scheduler, "interval": "{interval}"'
    if schedule.family.by_measure:
        monitor = "val_loss" if answer.measure == "valid_loss" else answer.measure
        config += f', "monitor": "{monitor}"'
    kind = f"torch.optim.{answer.optimizer}" if answer.is_torchs else answer.optimizer
    plain = answer.lr_is == f"lr of your {answer.optimizer}"
    body = [
        *([] if plain else [f"# {answer.lr_is}"]),
        f"optimizer = {kind}(self.parameters(), lr={lr!r})  # with your other arguments",
        *scheduler,
        f'return {{"optimizer": optimizer, "lr_scheduler": {{{config}}}}}',
    ]
    method = "\n".join(["def configure_optimizers(self):", *_indented(body)])
    return "\n\n\n".join(["import torch", *functions, method])


def _transformers(answer: Answer) -> str:
    """Fields of TrainingArguments where they have a name for the schedule, else a scheduler."""
    schedule = answer.recipe.schedule
    named = _named_arguments(answer)
    if named is not None:
        fields = {
            "learning_rate": answer.recipe.lr,
            **named,
            "num_train_epochs": answer.epochs,
        }
        lines = [f"    {name}={_as_text(value)}," for name, value in fields.items()]
        return "\n".join(
            [
                "from transformers import TrainingArguments",
                "",
                "args = TrainingArguments(  # beside your other arguments",
                *lines,
                ")",
            ]
        )
    t = f"update // {answer.updates_per_epoch}" if schedule.stepped_per == "epoch" else "update"
    return "\n".join(
        [
            "import torch",
            "",
            function_code(answer.recipe, answer.steps),
            "",
            "",
            "# for TrainingArguments(learning_rate=LR), after Trainer(...) and before train():",
            "optimizer = trainer.create_optimizer()",
            "trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(",
            f"    optimizer, lambda update: get_lr({t}) / LR",
            ")",
        ]
    )


def _named_arguments(answer: Answer) -> dict[str, Any] | None:
    """The schedule as Transformers calls it; None where it has no such schedule."""
    schedule = answer.recipe.schedule
    name, params, updates = schedule.family.name, schedule.params, answer.steps
    if schedule.warmup:  # theirs begins at lr 0
        return None
    if name == "constant":
        return {"lr_scheduler_type": "constant"}
    if name == "plateau":
        monitor = answer.measure.replace("valid_", "", 1)
        return {
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {**params, "eps": 0.0},
            "eval_strategy": "epoch",
            "metric_for_best_model": monitor,
            "greater_is_better": answer.direction == "maximize",
        }
    if schedule.stepped_per == "epoch":
        return None
    if name == "cosine" and params["T_max"] == updates:
        if params["eta_min"] == 0:
            return {"lr_scheduler_type": "cosine"}
        floor = {"min_lr": params["eta_min"]}
        return {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": floor}
    if name == "polynomial" and params == {"total_iters": updates, "power": 1.0}:
        return {"lr_scheduler_type": "linear"}
    return None


def _skorch(answer: Answer) -> str:
    """The callback LRScheduler, and the lr."""
    schedule, family = answer.recipe.schedule, answer.recipe.schedule.family
    plain = family.code is not None and not schedule.warmup and _is_torchs(answer)
    functions: list[str] = []
    if plain:
        policy = f"torch.optim.lr_scheduler.{family.label}"
        options = keywords(schedule.params)
        if family.by_measure:
            options += ["eps=0.0", f"monitor={written(answer.measure)}"]
    else:
        functions, scheduler = _definitions(answer)
        lines = [*scheduler, "return scheduler"]
        policy, options = "schedule", []
        functions.append("\n".join(["def schedule(optimizer, last_epoch=-1):", *_indented(lines)]))
    every = "batch" if schedule.stepped_per == "batch" else "epoch"
    arguments = ", ".join([f"policy={policy}", *options, f'step_every="{every}"'])
    use = "\n".join(
        [
            f"scheduler = LRScheduler({arguments})",
            "net.set_params(  # beside your other callbacks",
            f"    lr={answer.recipe.lr!r}, max_epochs={answer.epochs}, "
            'callbacks=[("schedule", scheduler)]',
            ")",
        ]
    )
    head = "import torch\nfrom skorch.callbacks import LRScheduler"
    return "\n\n\n".join([head, *functions, use])


def _is_torchs(answer: Answer) -> bool:
    """Whether the scheduler is a torch class with the schedule's parameters and no others."""
    schedule = answer.recipe.schedule
    family, params = schedule.family, schedule.params
    fixed = ["eps=0.0"] if family.by_measure else []
    return (
        family.code is not None
        and bool(family.label)
        and family.code(params) == call(family.label, *keywords(params), *fixed)
    )


def _definitions(answer: Answer) -> tuple[list[str], list[str]]:
    """Functions that the scheduler needs, and the lines that define `scheduler`.

    InvalidArgument for a schedule that is stepped in more than one way.
    """
    schedule = answer.recipe.schedule
    if schedule.family.by_measure and schedule.warmup:
        raise InvalidArgument(
            f"{schedule.family.name} after a warm-up must be stepped by hand; "
            "use the code for torch"
        )
    if schedule.family.by_group is not None:
        raise InvalidArgument(
            f"{schedule.family.name} needs the optimizer's own groups; use the code for torch"
        )
    text = schedule.code(answer.measure).rpartition("\n# after")[0]
    if "task." not in text:
        return [], text.splitlines()
    function = function_code(answer.recipe, answer.steps)
    return [function], [f"scheduler = {call('LambdaLR', 'lambda t: get_lr(t) / LR')}"]


def _indented(lines: list[str]) -> list[str]:
    return [f"    {part}" for line in lines for part in line.splitlines()]


def _as_text(value: Any) -> str:  # noqa: ANN401 (a number, a word or a dict)
    if isinstance(value, Mapping):
        pairs: Mapping[str, Any] = value
        return "{" + ", ".join(f"{written(k)}: {written(v)}" for k, v in pairs.items()) + "}"
    return written(value)
