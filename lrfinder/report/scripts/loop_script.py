"""best_schedule.py of a loop: the loop as it is, and in lrfinder's place a few lines of PyTorch.

They step the schedule that was found, evaluate after every epoch, and stop nothing. Where the loop
was an object, no file has it: the script then has a marked place for it.
"""

import re
from collections.abc import Sequence
from textwrap import fill

from lrfinder.report.scripts.task_import import import_order, loaded_by, own_import
from lrfinder.results.summary import BestFacts
from lrfinder.schedules.families.codegen import variable_name
from lrfinder.schedules.groups import NAME as GROUPS
from lrfinder.tasks.loops.loop import Loop
from lrfinder.tasks.reference import TaskReference

_HANDED = '''
class Training:
    """What lrfinder hands to train(training): here it follows the schedule that was found."""

    epochs, updates, seed = EPOCHS, EPOCHS * STEPS_PER_EPOCH, SEED
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def __init__(self):
        self.built, self.schedulers, self.made, self.evaluate = [], [], 0, None

    def drive(self, *optimizers, **named):
        """Set LR, to which all groups keep their ratios, and start the schedules."""
        for optimizer in (*optimizers, *named.values()):
            lrs = [group.pop("initial_lr", group["lr"]) for group in optimizer.param_groups]
            self.built.append((optimizer, lrs))
        largest = max(lr for _, lrs in self.built for lr in lrs)
        for optimizer, lrs in self.built:
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = LR if lr == largest else lr * (LR / largest)
                group.pop("initial_lr", None)
{schedulers}

    def measure(self, function):
        self.evaluate = function

    def log(self, loss):
        """Count an update, after the optimizers' steps."""
        self.made += 1
        epoch, further = divmod(self.made, STEPS_PER_EPOCH)
        if further == 0:
            lr = max(float(g["lr"]) for one, _ in self.built for g in one.param_groups)
            measured = self.measured()
            shown = [f"{{name}} {{value:.4f}}" for name, value in measured.items()]
            print(f"epoch {{epoch:3d}}", f"lr {{lr:.3g}}", *shown, sep="  ")
{after_epoch}
{after_update}

    def measured(self):
        """What the loop measures, as numbers; torch's random state and train flags stay."""
        modules = [one for one in gc.get_objects() if issubclass(type(one), torch.nn.Module)]
        flags = [module.training for module in modules]
        with torch.random.fork_rng():
            found = self.evaluate()
        for module, training in zip(modules, flags, strict=True):
            module.training = training
        found = found if isinstance(found, dict) else {{"valid_loss": found}}
        return {{name: torch.as_tensor(value).item() for name, value in found.items()}}
'''


_EACH: str = "self.schedulers = [schedule(optimizer) for optimizer, _ in self.built]"
_JOINT: str = """groups = [group for optimizer, _ in self.built for group in optimizer.param_groups]
joint = torch.optim.SGD([torch.zeros(1)], LR)  # which shares the groups of all, and is not stepped
joint.param_groups = groups
warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
self.schedulers = [schedule(joint)]"""


def loop_script(loop: Loop, source: TaskReference | None, best: BestFacts) -> str:
    """Text of the script for a loop, what it was loaded from, and the winner of a run."""
    scheduler = best.code.rpartition("\n# after")[0]
    names = [name for name in ("valid_loss", *loop.metrics) if _reads(best.step_code, name)]
    step = [f"{variable_name(name)} = measured[{name!r}]" for name in names]
    step += ["for scheduler in self.schedulers:", f"    {best.step_code}"]
    per_epoch = best.stepped_per == "epoch"
    by_group = best.family == GROUPS
    handed = _HANDED.format(
        schedulers=_indented((_JOINT if by_group else _EACH).splitlines(), 2),
        after_epoch=_indented(step if per_epoch else [], 3),
        after_update=_indented([] if per_epoch else step, 2),
    )
    line = "# " + "-" * 70
    place = [
        line,
        "# Put in here what was given to lrfinder.",
        "train = ...  # train(training)",
        line,
    ]
    if source is not None:
        expression = loaded_by(source)
        place = [] if expression == "loop" else [f"loop = {expression}"]
    uses_task = re.search(r"\btask\.", scheduler) is not None
    place += ["task = loop" if source else "task = ...  # the Loop"] if uses_task else []
    parts = [
        f'"""Train {loop.name} with the best schedule that was found.\n\n'
        f'{fill(f"{best.schedule}, initial learning rate {best.lr:.4g}.", 88)}\n"""',
        *_imports(source, by_group=by_group),
        f"EPOCHS = {loop.epochs}\nSTEPS_PER_EPOCH = {loop.data().updates_per_epoch}\n"
        f"LR = {best.lr!r}\nSEED = 0",
        *(["\n".join(place)] if place else []),
        '\ndef schedule(optimizer):\n    """The schedule of one optimizer."""\n'
        f"{_indented(scheduler.splitlines(), 1)}\n    return scheduler",
        re.sub(r"\n{3,}", "\n\n", handed.replace("\nclass", "\n\nclass", 1)).strip("\n"),
        "\nrandom.seed(SEED)\nnp.random.seed(SEED)\ntorch.manual_seed(SEED)\n"
        f"{'train' if source is None else 'loop.train'}(Training())",
    ]
    return "\n\n".join(parts).replace("\n\nclass", "\n\n\nclass", 1) + "\n"


def _imports(source: TaskReference | None, *, by_group: bool) -> list[str]:
    standard = ["import gc", "import random", *(["import warnings"] if by_group else [])]
    if source is not None and source.file is not None:
        standard.append("import sys")
    if source is not None and not source.is_importable:
        standard.append("from importlib.util import module_from_spec, spec_from_file_location")
    own = [] if source is None else [own_import(source)]
    return ["\n".join(sorted(standard, key=import_order)), "import numpy as np\nimport torch", *own]


def _reads(step: str, measure: str) -> bool:
    return f"({variable_name(measure)})" in step


def _indented(lines: Sequence[str], levels: int) -> str:
    return "\n".join("    " * levels + line for line in lines)
