"""The ``lrfinder`` command: arguments in, one call of the library, the result on stdout.

Options, defaults and descriptions come from the fields of the settings. Progress and notes go to
stderr. Nothing of PyTorch is imported before a command runs. Exit status:
0 answered; 1 the task raised or nothing finite came out; 2 wrong arguments, settings file or
folder; 3 the task cannot be loaded; 4 inconclusive (`find`), or something was found (`check`);
130 interrupted.
"""

import gc
import json
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from importlib.metadata import version
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, cast, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lrfinder.errors import InvalidArgument, LRFinderError, TaskLoadError
from lrfinder.settings import (
    FindSettings,
    RangeTestSettings,
    RunSettings,
    read_settings_file,
    settings_from,
)
from lrfinder.tasks.templates import KINDS, filled_in
from lrfinder.terminal import (
    interrupt_on_signals,
    let_threads_sleep,
    run_to_its_end,
    stdout_kept_clean,
)
from lrfinder.types import CodeKind

_YOU_ASK = """\b
You ask                               you type
which lr?                             lrfinder find my_task.py
the lr for my schedule and length?    lrfinder find my_task.py --schedule cosine --epochs 90
the lr for another batch size?        lrfinder find my_task.py --batch-sizes 32,128,512
the lr by accuracy, epoch by epoch?   lrfinder find my_task.py --every epoch
is my schedule wrong?                 lrfinder check "StepLR(step_size=30)" --epochs 90
which schedule, and its parameters?   lrfinder run my_task.py
only these, at my lr?                 lrfinder sweep my_task.py --lr 0.1 --families step,cosine
how long a warm-up?                   lrfinder run my_task.py --warmup search
better than what I use today?         lrfinder run my_task.py --baseline 0.1,step,step_size=30
a schedule for each parameter group?  lrfinder run study.toml, with a table [groups.NAME] each
"""

app = typer.Typer(
    epilog=_YOU_ASK,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which initial learning rate, and which decay? Range tests and decay studies for PyTorch.",
)

_out = Console(soft_wrap=True, highlight=False, emoji=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)

_RANGE_TEST, _GIVEN_LR = list(RangeTestSettings.model_fields), ["lr", "lr_range"]
_ONLY_IN_FILES = ["groups"]  # a table
_ELSEWHERE = [*_RANGE_TEST, *_GIVEN_LR, *_ONLY_IN_FILES]
_STUDIES = [name for name in RunSettings.model_fields if name not in _ELSEWHERE]
_STUDIES.append("timeout")  # the range test alone has one of its own
_FOR = [name for name in FindSettings.model_fields if name not in _RANGE_TEST]
_FIND = ["task", *_FOR, *_RANGE_TEST[1:]]
_WRITTEN = {"cost", "warmup"}  # numbers that may be words, which the settings read
_METAVARS = {
    "task": "TASK",
    "schedule": "SPEC",
    "batch_sizes": "A,B,C",
    "cost": "SHARE",
    "families": "A,B,C",
    "lr_range": "LOW HIGH",
    "warmup": "EPOCHS|search",
}


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


def _parameter(name: str, field: FieldInfo, spelling: str) -> Parameter:
    """A field of the settings as a parameter of a command; None where it is not given."""
    kinds = [kind for kind in get_args(field.annotation) if kind is not type(None)]
    kind: Any = kinds[0] if type(None) in get_args(field.annotation) else field.annotation
    says, shown = str(field.description), field.default
    if shown is not None:
        says += f" Default: {shown:g}." if isinstance(shown, float) else f" Default: {shown}."
    more: dict[str, Any] = {"help": says, "metavar": _METAVARS.get(name), "show_default": False}
    if get_origin(kind) is Literal:
        kind, more["metavar"] = str, f"[{'|'.join(get_args(kind))}]"  # checked by the settings
    several = any(list in (get_origin(one), *map(get_origin, get_args(one))) for one in kinds)
    if several or name in _WRITTEN:
        kind = str  # several are separated by commas
    if name == "task":
        how: Any = typer.Argument(**more)
    else:
        how = typer.Option(f"--{spelling.replace('_', '-')}", **more)
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, how]
    )


def _with_options(
    kind: type[RangeTestSettings], names: Iterable[str], **spellings: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, whose last parameter takes them all, options for these settings."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        *own, _ = Signature.from_callable(command).parameters.values()
        fields = kind.model_fields
        wanted = [_parameter(name, fields[name], spellings.get(name, name)) for name in names]
        vars(command)["__signature__"] = Signature([*wanted, *own])
        return command

    return give


Out = Annotated[Path | None, typer.Option(help="Folder to write, which must not exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Resume an interrupted run.")]


@app.command("run")
@_with_options(RunSettings, dict.fromkeys(_RANGE_TEST + _STUDIES))
def run_command(
    *,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Range test, decay studies and comparison: which lr, and which decay?"""
    with _reported():
        _run(options, out=out, resume=resume, quiet=quiet, as_json=as_json)


@app.command()
@_with_options(RunSettings, ["task", *_GIVEN_LR, *_STUDIES, "seed", "device", "engine"])
def sweep(
    *,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Decay studies and comparison at an lr that you give."""
    with _reported():
        _run(options, out=out, resume=resume, quiet=quiet, as_json=as_json, needs_lr=True)


@app.command()
@_with_options(FindSettings, _FIND, find_seeds="seeds")
def find(
    *,
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Range test alone: which initial lr, for which schedule? Exit status 4 if it cannot tell."""
    with _reported():
        _find(options, out=out, quiet=quiet, as_json=as_json)


@app.command()
def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|TASK|FILE.toml|DIR",
            help="A schedule (cosine,T_max=20), a task's baseline, a study file or a run folder.",
        ),
    ],
    *,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="Task that a schedule is for.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of the training. Default: the task's.")
    ] = None,
    updates_per_epoch: Annotated[
        int | None, typer.Option(min=1, help="Updates of an epoch. Default: the task's.")
    ] = None,
    per: Annotated[
        str, typer.Option(metavar="[epoch|batch]", help="How often the schedule is stepped.")
    ] = "epoch",
    warmup: Annotated[float, typer.Option(min=0, help="Epochs of linear warm-up.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Look for mistakes in a schedule, without training. Exit status 4 if something was found."""
    with _reported():
        if per not in ("epoch", "batch"):
            raise InvalidArgument(f"per must be 'epoch' or 'batch', but got {per!r}")
        with _importing():
            from lrfinder.report.check import check as look
        with _tasks_output(as_json):
            checked = look(
                what,
                task=task,
                epochs=epochs,
                updates_per_epoch=updates_per_epoch,
                per=per,
                warmup=warmup,
            )
        if as_json:
            _print_json(asdict(checked))
        else:
            for line in checked.lines():
                _out.print(escape(line))
        if checked.found:
            raise typer.Exit(4)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    code: Annotated[
        str | None,
        typer.Option(
            metavar=f"[{'|'.join(get_args(CodeKind))}]",
            help="Print nothing but the best schedule as code to paste.",
        ),
    ] = None,
) -> None:
    """Print a finished run again, and rebuild its report, pictures and dashboard notes."""
    with _reported():
        from lrfinder.commands import finished_run, write_again

        finished = finished_run(run)
        if code is not None:
            sys.stdout.write(finished.code(cast(CodeKind, code)) + "\n")
            return
        _print_run(finished)
        with _progress(quiet=False) as progress:
            write_again(finished, progress)


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from lrfinder.tasks.builtin import BUILT_IN

    for name, what in BUILT_IN.items():
        _out.print(f"{name:12} {what}")


@app.command()
def init(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="The file to write. Default: my_KIND.py."),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            metavar=f"[{'|'.join(KINDS)}]",
            help=f"What it holds: {'; '.join(f'{k}, {what}' for k, what in KINDS.items())}.",
        ),
    ] = next(iter(KINDS)),
) -> None:
    """Write a commented file that runs as it is, to put your own program into."""
    with _reported():
        if kind not in KINDS:
            raise InvalidArgument(f"kind must be one of {', '.join(KINDS)}, but got {kind!r}")
        file = file or Path(f"my_{kind}.py")
        if file.suffix != ".py":
            raise InvalidArgument(f"a task file must end in .py, but got {str(file)!r}")
        try:
            with file.open("x", encoding="utf-8") as new:
                new.write(filled_in(kind, file.name))
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


@app.command()
def worker(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task of the run.")],
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="The --storage of the run.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the run's folder.")],
    quiet: Quiet = False,
) -> None:
    """Train for a run in a shared storage, on this machine or another, until it has ended."""
    with _reported():
        with _importing():
            from lrfinder.workers.worker import work

        with _progress(quiet) as progress:
            work(task, storage, name, progress)


def main() -> NoReturn:
    """Run the command line; exits with its status."""
    let_threads_sleep()
    interrupt_on_signals()
    run_to_its_end(app, _say_error)


def _asked(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given, over those of a settings file where the task is one."""
    given = {name: value for name, value in options.items() if value is not None}
    if "families" in given:
        given["families"] = [name.strip() for name in given["families"].split(",")]
    if "warmup" in given:
        with suppress(ValueError):  # what is no number is checked by the settings
            given["warmup"] = float(given["warmup"])
    for name in ("epochs", "batch_sizes"):
        if isinstance(given.get(name), str):
            given[name] = _whole_numbers(name, given[name])
    if isinstance(given.get("epochs"), list) and len(given["epochs"]) == 1:
        given["epochs"] = given["epochs"][0]
    if given.get("task", "").endswith(".toml"):
        return {**read_settings_file(Path(given.pop("task"))), **given}
    return given


def _whole_numbers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InvalidArgument(
            f"{name.replace('_', '-')} must be whole numbers such as 10 or 10,50,250, "
            f"but got {text!r}"
        ) from error


def _run(
    options: dict[str, Any],
    *,
    out: Path | None,
    resume: Path | None,
    quiet: bool,
    as_json: bool,
    needs_lr: bool = False,
) -> None:
    if resume is not None and out is not None:
        raise InvalidArgument("--out and --resume exclude each other, but got both")
    given = _asked(options)
    settings = None if resume is not None else settings_from(RunSettings, given)
    if needs_lr and settings is not None and settings.finds_lr:
        raise InvalidArgument(
            "sweep needs --lr X or --lr-range LOW HIGH, but got neither; "
            "`lrfinder run` finds the lr itself"
        )
    with _importing():
        from lrfinder import commands

    with _tasks_output(as_json), _progress(quiet) as progress:
        if settings is not None:
            finished = commands.start(settings, out, progress)
        else:
            finished = commands.go_on(Path(resume or ""), given, progress)
    if as_json:
        _print_json(dict(finished.summary))
    else:
        _print_run(finished)


def _find(options: dict[str, Any], *, out: Path | None, quiet: bool, as_json: bool) -> None:
    known = {k: v for k, v in _asked(options).items() if k in FindSettings.model_fields}
    settings = settings_from(FindSettings, known)  # a settings file may hold more
    with _importing():
        from lrfinder import commands
        from lrfinder.report import wording as words
        from lrfinder.report.tables import steps_of

    if settings.one_by_one():
        with _tasks_output(as_json), _progress(quiet) as progress:
            series = commands.find_each(settings, out, progress)
        _print_series(series, as_json=as_json)
        return
    with _tasks_output(as_json), _progress(quiet) as progress:
        name, curve, suggestion = commands.find(settings, out, progress)
    if as_json:
        _print_json(commands.found_facts(name, curve, suggestion))
    else:
        for line in words.suggestion_lines(suggestion):
            _out.print(escape(line))
        if said := words.by_epoch(curve, suggestion):
            _print_table(steps_of(curve))
            for line in said:
                _out.print(escape(line))
    if suggestion.lr is None:
        raise typer.Exit(4)


def _print_series(series: Any, *, as_json: bool) -> None:  # noqa: ANN401
    from lrfinder.commands import series_facts
    from lrfinder.report.tables import series_of

    if as_json:
        _print_json(series_facts(series))
    else:
        _print_table(series_of(series))
        for line in series.said():
            _out.print(escape(line))
    if all(one.lr is None for one in series.suggestions):
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


@contextmanager
def _progress(quiet: bool) -> Generator[Any]:
    """Progress on stderr."""
    from lrfinder.report.progress import shown

    with shown(_err, quiet=quiet) as progress:
        yield progress


def _tasks_output(as_json: bool) -> AbstractContextManager[None]:
    """Keep what the task prints apart from the one JSON object on stdout."""
    return stdout_kept_clean() if as_json else nullcontext()


def _print_run(run: Any) -> None:  # noqa: ANN401 (importing its type would import torch)
    from lrfinder.report import wording as words
    from lrfinder.report.tables import PARAMETERS
    from lrfinder.report.tables import ranking as ranking_of

    if run.suggestion is not None:
        said = [words.suggestion_line(run.suggestion), words.how_wrong(run.suggestion)]
        _out.print(escape("\n".join(filter(None, said))) + "\n")
    _print_table(ranking_of(run), folded=PARAMETERS)
    for sentence in words.conclusions(run):
        _out.print(escape(sentence))
    _out.print(escape(f"\n{words.code_of_answer(run.answers)}\n"))
    _out.print(escape(f"{run.path / 'report.md'}  {run.path / 'best_schedule.py'}"))


def _print_table(shown: Any, folded: str = "") -> None:  # noqa: ANN401
    """Print a table of text, and an empty line; one of its columns may be broken over lines.

    What a terminal has no room for is left out and named.
    """
    room = _out.width if _out.is_terminal else max(120, shown.width(folded))
    fits = shown.within(room, folded)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in fits.header:
        table.add_column(name, no_wrap=name != folded, overflow="fold")
    for row in fits.rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=room).print(table)
    if left_out := [name for name in shown.header if name not in fits.header]:
        _out.print(escape(f"(no room here for {', '.join(left_out)})"))
    _out.print()


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
    _say_error(message)
    raise typer.Exit(status)


def _say_error(message: str) -> None:
    _err.print(f"[bold red]lrfinder:[/] {escape(message)}")
