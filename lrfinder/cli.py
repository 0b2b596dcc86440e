"""The ``lrfinder`` command: arguments in, one call of the library, the result on stdout.

Progress and notes go to stderr. Nothing of PyTorch is imported before a command runs. Exit status:
0 answered; 1 the task raised or nothing finite came out; 2 wrong arguments, study file or folder;
3 the task cannot be loaded; 4 inconclusive (`find` only); 130 interrupted.
"""

import gc
import json
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from lrfinder.errors import InvalidArgument, LRFinderError, TaskLoadError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which initial learning rate, and which decay? Range tests and decay studies for PyTorch.",
)

FAMILIES_HELP = (
    "Decay families, as a,b,c, of constant, step, exponential, inverse_time, cosine, polynomial, "
    "plateau, wsd (the default) and multistep, exponential_steps, cosine_restarts, one_cycle, "
    "triangular, and those of the task. constant is always compared."
)

_out = Console(soft_wrap=True, highlight=False, emoji=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

TaskArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TASK",
        help="my_task.py[:factory], package.module:factory, a built-in name "
        "(see `lrfinder tasks`), or a study file (.toml). Default: digits.",
    ),
]
MinLR = Annotated[float | None, typer.Option(help="Lr of the first step. Default: 1e-6.")]
MaxLR = Annotated[float | None, typer.Option(help="Lr of the last step. Default: 10.")]
Steps = Annotated[
    int | None, typer.Option(help="Learning rates tested. Default: 100 per batch, 20 per epoch.")
]
Every = Annotated[
    str | None, typer.Option(help="Grow the lr every batch or epoch. Default: batch.")
]
Growth = Annotated[
    str | None, typer.Option(help="exponential or linear growth. Default: exponential.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random. Default: 0.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps. Default: auto.")]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="auto times both trainers and takes the faster; sequential: one run after another, "
        "repeatable bit for bit; batched: all runs in one program. Default: auto.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Processes that train, for models that batching does not help. Default: 1.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder to write; it must not exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of a run. Default: the task's.")]
Families = Annotated[str | None, typer.Option(help=FAMILIES_HELP)]
Trials = Annotated[int | None, typer.Option(help="Complete trials per family. Default: 10.")]
FindSeeds = Annotated[int | None, typer.Option(help="Seeds of the range test. Default: 1.")]
Probes = Annotated[
    int | None, typer.Option(help="Most runs at a constant lr after a range test. Default: 4.")
]
TrialSeeds = Annotated[int | None, typer.Option(help="Seeds of each trial. Default: 2.")]
ConfirmSeeds = Annotated[
    int | None, typer.Option(help="Fresh seeds of the comparison. Default: 8.")
]
Per = Annotated[str | None, typer.Option(help="Step schedules per epoch or batch. Default: epoch.")]
Warmup = Annotated[float | None, typer.Option(help="Epochs of linear warm-up. Default: 0.")]
Objective = Annotated[
    str | None, typer.Option(help="valid_loss or a metric of the task. Default: valid_loss.")
]
Direction = Annotated[
    str | None, typer.Option(help="minimize or maximize. Default: maximize for a metric.")
]
BaselineOption = Annotated[
    str | None,
    typer.Option("--baseline", help="What you use today: 0.1, or 0.1,step,step_size=30,gamma=0.1."),
]
Timeout = Annotated[
    float | None, typer.Option(help="Seconds after which no further trial is started.")
]
Storage = Annotated[
    str | None, typer.Option(help="Optuna storage URL. Default: SQLite in the run folder.")
]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with an interrupted run.")]


def _version(asked: bool) -> None:
    if asked:
        _out.print(f"lrfinder {version('lrfinder')}")
        raise typer.Exit


@app.callback()
def _common(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command("run")
def run_command(
    task: TaskArgument = None,
    epochs: Epochs = None,
    families: Families = None,
    trials: Trials = None,
    find_seeds: FindSeeds = None,
    trial_seeds: TrialSeeds = None,
    confirm_seeds: ConfirmSeeds = None,
    seed: Seed = None,
    min_lr: MinLR = None,
    max_lr: MaxLR = None,
    steps: Steps = None,
    probes: Probes = None,
    every: Every = None,
    growth: Growth = None,
    per: Per = None,
    warmup: Warmup = None,
    objective: Objective = None,
    direction: Direction = None,
    baseline: BaselineOption = None,
    timeout: Timeout = None,
    device: Device = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    storage: Storage = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Range test, decay studies and comparison: which lr, and which decay?"""
    options = _options(locals())
    with _reported():
        _run(task, options, out=out, resume=resume, quiet=quiet, as_json=as_json)


@app.command()
def sweep(
    task: TaskArgument = None,
    lr: Annotated[float | None, typer.Option(help="The initial lr, fixed.")] = None,
    lr_range: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Lr range to search.")
    ] = None,
    epochs: Epochs = None,
    families: Families = None,
    trials: Trials = None,
    trial_seeds: TrialSeeds = None,
    confirm_seeds: ConfirmSeeds = None,
    seed: Seed = None,
    per: Per = None,
    warmup: Warmup = None,
    objective: Objective = None,
    direction: Direction = None,
    baseline: BaselineOption = None,
    timeout: Timeout = None,
    device: Device = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    storage: Storage = None,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Decay studies and comparison with an lr that you give."""
    options = _options(locals())
    with _reported():
        _run(task, options, out=out, resume=resume, quiet=quiet, as_json=as_json, needs_lr=True)


@app.command()
def find(
    task: TaskArgument = None,
    min_lr: MinLR = None,
    max_lr: MaxLR = None,
    steps: Steps = None,
    probes: Probes = None,
    seeds: Annotated[int | None, typer.Option(help="Whole tests. Default: 1.")] = None,
    every: Every = None,
    growth: Growth = None,
    seed: Seed = None,
    device: Device = None,
    engine: EngineOption = None,
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Range test alone: which initial lr? Exit status 4 if it cannot tell."""
    options = _options({**locals(), "find_seeds": seeds, "seeds": None})
    with _reported():
        _find(task, options, out=out, quiet=quiet, as_json=as_json)


@app.command()
def report(run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")]) -> None:
    """Print a finished run again, and rebuild its report, pictures and dashboard notes."""
    with _reported():
        from lrfinder.commands import rebuild

        _print_run(rebuild(run, _Lines()))


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from lrfinder.tasks.builtin import BUILT_IN

    for name, what in BUILT_IN.items():
        _out.print(f"{name:12} {what}")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path(
        "my_task.py"
    ),
) -> None:
    """Write a commented task file that runs as it is."""
    with _reported():
        from lrfinder.tasks.builtin.template import TEMPLATE

        if file.suffix != ".py":
            raise InvalidArgument(f"a task file must end in .py, but got {str(file)!r}")
        try:
            with file.open("x", encoding="utf-8") as new:
                new.write(TEMPLATE.format(name=file.name))
        except FileExistsError as error:
            raise InvalidArgument(f"{file} exists already; give another name") from error
        except OSError as error:
            raise InvalidArgument(f"{file} cannot be written: {error.strerror}") from error
        _out.print(f"wrote {file}; next: lrfinder run {file}")


@app.command()
def dashboard(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8080,
) -> None:
    """Open the run's studies in optuna-dashboard, on this machine only."""
    with _reported():
        from lrfinder.report.dashboard import serve
        from lrfinder.results.saved_run import open_studies

        serve(open_studies(run), port, lambda line: _err.print(escape(line)))


def main() -> NoReturn:
    """Run the command line; exits with its status."""
    signal.signal(signal.SIGTERM, _interrupt)
    app()
    sys.exit(0)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, as the settings name them."""
    elsewhere = ("task", "out", "resume", "quiet", "as_json")
    options = {k: v for k, v in given.items() if v is not None and k not in elsewhere}
    if "families" in options:
        options["families"] = [name.strip() for name in options["families"].split(",")]
    return options


def _run(
    task: str | None,
    options: dict[str, Any],
    *,
    out: Path | None,
    resume: Path | None,
    quiet: bool,
    as_json: bool,
    needs_lr: bool = False,
) -> None:
    with _importing():
        from lrfinder import commands as acts
        from lrfinder.settings import RunSettings, settings_from

    given = _with_task(task, options)
    with _shown(quiet) as progress:
        if resume is not None:
            if out is not None:
                raise InvalidArgument("--out and --resume exclude each other, but got both")
            finished = acts.go_on(resume, given, progress)
        else:
            settings = settings_from(RunSettings, given)
            if needs_lr and settings.finds_lr:
                raise InvalidArgument(
                    "sweep needs --lr X or --lr-range LOW HIGH, but got neither; "
                    "`lrfinder run` finds the lr itself"
                )
            finished = acts.start(settings, out, progress)
    if as_json:
        _print_json(dict(finished.summary))
    else:
        _print_run(finished)


def _find(
    task: str | None, options: dict[str, Any], *, out: Path | None, quiet: bool, as_json: bool
) -> None:
    with _importing():
        from lrfinder import commands as acts
        from lrfinder.report.wording import suggestion_line, validity
        from lrfinder.results.folder import RunFolder
        from lrfinder.results.summary import RangeTestFacts
        from lrfinder.settings import RangeTestSettings, settings_from

    given = _with_task(task, options)
    known = {key: value for key, value in given.items() if key in RangeTestSettings.model_fields}
    settings = settings_from(RangeTestSettings, known)  # a study file may hold more
    problem = acts.RangeTestExperiment(settings)
    folder = None if out is None else RunFolder.create(out)
    try:
        with _shown(quiet) as progress:
            curve = acts.find(problem, progress)
    except BaseException:
        if folder is not None:
            folder.discard()
        raise
    suggestion = curve.suggest()
    facts = {
        "task": problem.task.name,
        **asdict(suggestion),
        **RangeTestFacts.of(curve).model_dump(),
    }
    if folder is not None:
        acts.keep_range_test(problem, curve, suggestion, folder)
    if as_json:
        _print_json(facts)
    else:
        _out.print(escape(suggestion_line(suggestion)))
        _out.print(escape(validity(suggestion)))
        others = [f"{k} {v:.3g}" for k, v in suggestion.alternatives.items() if v is not None]
        _out.print(escape(f"other rules: {', '.join(others) or 'none'}"))
    if suggestion.lr is None:
        raise typer.Exit(4)


@contextmanager
def _importing() -> Generator[None]:
    """Import without the garbage collector, now and later: what is imported stays.

    Its passes over the half million objects of PyTorch take a second of a short run.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _with_task(task: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the task, or over those of a study file."""
    if task is None:
        return options
    if task.endswith(".toml"):
        from lrfinder.settings import read_study_file

        return {**read_study_file(Path(task)), **options}
    return {"task": task, **options}


def _print_run(run: Any) -> None:  # noqa: ANN401 (importing its type would import torch)
    from lrfinder.report import wording as words
    from lrfinder.report.tables import PARAMETERS
    from lrfinder.report.tables import ranking as ranking_of

    ranking = ranking_of(run)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ranking.header:
        table.add_column(name, no_wrap=name != PARAMETERS, overflow="fold")
    for row in ranking.rows:
        table.add_row(*map(escape, row))
    if run.suggestion is not None:
        _out.print(escape(words.suggestion_line(run.suggestion)) + "\n")
    Console(highlight=False, width=None if _out.is_terminal else 120).print(table)
    _out.print()
    for sentence in words.conclusions(run):
        _out.print(escape(sentence))
    _out.print(escape(f"\n{run.answers.winner.code}\n"))
    _out.print(escape(f"{run.path / 'report.md'}  {run.path / 'best_schedule.py'}"))


def _print_json(facts: dict[str, Any]) -> None:
    from lrfinder.results.summary import jsonable

    sys.stdout.write(json.dumps(jsonable(facts)) + "\n")


@contextmanager
def _reported() -> Generator[None]:
    """Turn what lrfinder raises into one line on stderr and an exit status."""
    try:
        yield
    except KeyboardInterrupt as error:
        _fail(str(error) or "interrupted", 130)
    except TaskLoadError as error:
        _fail(str(error), 3)
    except InvalidArgument as error:
        _fail(str(error), 2)
    except LRFinderError as error:
        _fail(str(error), 1)


def _fail(message: str, status: int) -> NoReturn:
    _err.print(f"[bold red]lrfinder:[/] {escape(message)}")
    raise typer.Exit(status)


class _Bars:
    """Progress on a terminal: a bar per act; lines above it."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: Any = None

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""
        if self._task is not None:
            self._bar.update(self._task, completed=self._bar.tasks[self._task].total)
        self._task = self._bar.add_task(name, total=updates)

    def advance(self, updates: int) -> None:
        """Count updates."""
        self._bar.advance(self._task, updates)

    def say(self, text: str) -> None:
        """Show a line."""
        self._bar.console.print(escape(text))


class _Lines:
    """Progress where stderr is no terminal: a line for every tenth of an act."""

    def __init__(self) -> None:
        self._name, self._total, self._done, self._shown = "", 0, 0, 0

    def stage(self, name: str, updates: int) -> None:
        """Begin an act."""
        self._name, self._total, self._done, self._shown = name, updates, 0, 0

    def advance(self, updates: int) -> None:
        """Count updates."""
        self._done += updates
        tenth = min(10, 10 * self._done // max(self._total, 1))
        if tenth > self._shown:
            self._shown = tenth
            self.say(f"{self._name}: {10 * tenth}%")

    def say(self, text: str) -> None:
        """Show a line."""
        _err.print(escape(text))


@contextmanager
def _shown(quiet: bool) -> Generator[Any]:
    """Progress on stderr, and Optuna's own log kept to warnings."""
    import optuna

    from lrfinder.report.progress import Silent

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if quiet:
        yield Silent()
    elif not _err.is_terminal:
        yield _Lines()
    else:
        columns = (
            TextColumn("{task.description:10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("updates"),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=_err) as bar:
            yield _Bars(bar)
