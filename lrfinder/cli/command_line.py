"""The commands: arguments in, one call of the library, the result printed."""

import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast, get_args

import typer
from rich.markup import escape

from lrfinder.cli.options import OF_FIND, OF_RUN, OF_SWEEP, asked, with_options
from lrfinder.cli.printing import (
    ERR,
    OUT,
    print_found,
    print_json,
    print_lines,
    print_run,
    print_series,
    progress_shown,
    reported,
    say_error,
    tasks_output,
)
from lrfinder.cli.process import (
    interrupt_on_signals,
    keep_freed_memory,
    let_threads_sleep,
    run_to_its_end,
)
from lrfinder.errors import InvalidArgument
from lrfinder.imports import importing, keep_what_is_imported
from lrfinder.settings import FindSettings, RunSettings, settings_from
from lrfinder.tasks.templates import KINDS, write_template
from lrfinder.types import CodeKind, Per

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


def _version(asked: bool) -> None:
    if asked:
        OUT.print(f"lrfinder {version('lrfinder')}")
        raise typer.Exit


@app.callback()
def _common(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


Out = Annotated[Path | None, typer.Option(help="Folder to write, which must not exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]
Resume = Annotated[Path | None, typer.Option(metavar="DIR", help="Resume an interrupted run.")]


@app.command("run")
@with_options(RunSettings, OF_RUN)
def run_command(
    *,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Range test, decay studies and comparison: the whole answer."""
    with reported():
        _run(options, out=out, resume=resume, quiet=quiet, as_json=as_json)


@app.command()
@with_options(RunSettings, OF_SWEEP)
def sweep(
    *,
    out: Out = None,
    resume: Resume = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Decay studies and comparison at an lr that you give."""
    with reported():
        _run(options, out=out, resume=resume, quiet=quiet, as_json=as_json, needs_lr=True)


@app.command()
@with_options(FindSettings, OF_FIND, find_seeds="seeds")
def find(
    *,
    out: Out = None,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,  # noqa: ANN401 (a value of the settings, or None)
) -> None:
    """Range test alone, for the initial lr. Exit status 4 if it cannot tell."""
    with reported():
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
    with reported():
        with importing():
            from lrfinder.report.check import check as look
        with tasks_output(as_json):
            checked = look(
                what,
                task=task,
                epochs=epochs,
                updates_per_epoch=updates_per_epoch,
                per=cast(Per, per),
                warmup=warmup,
            )
        if as_json:
            print_json(asdict(checked))
        else:
            print_lines(checked.lines())
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
    """Print a finished run again. Rebuilds its report, pictures and dashboard notes."""
    with reported():
        from lrfinder.commands import finished_run, write_again

        finished = finished_run(run)
        if code is not None:
            sys.stdout.write(finished.code(cast(CodeKind, code)) + "\n")
            return
        print_run(finished, as_json=False)
        with progress_shown(quiet=False) as progress:
            write_again(finished, progress)


@app.command()
def tasks() -> None:
    """List the built-in tasks."""
    from lrfinder.tasks.builtin import BUILT_IN

    for name, what in BUILT_IN.items():
        OUT.print(f"{name:12} {what}")


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
    """Write a commented file to put your program into. It runs as it is."""
    with reported():
        written = write_template(kind, file)
        OUT.print(f"wrote {written}; next: lrfinder run {written}")


@app.command()
def dashboard(
    run: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8080,
) -> None:
    """Show a run's studies in optuna-dashboard. On this machine only."""
    with reported():
        from lrfinder.report.dashboard import serve
        from lrfinder.results.opening import open_studies

        serve(open_studies(run), port, lambda line: ERR.print(escape(line)))


@app.command()
def worker(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task of the run.")],
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="The --storage of the run.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the run's folder.")],
    quiet: Quiet = False,
) -> None:
    """Train for a run in a shared storage, until it has ended. On this machine or another."""
    with reported():
        with importing():
            from lrfinder.workers.worker import work

        with progress_shown(quiet) as progress:
            work(task, storage, name, progress)


def main() -> NoReturn:
    """Run the command line; exits with its status."""
    let_threads_sleep()
    keep_freed_memory()
    keep_what_is_imported()
    interrupt_on_signals()
    run_to_its_end(app, say_error)


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
    given = asked(options)
    settings = None if resume is not None else settings_from(RunSettings, given)
    if needs_lr and settings is not None and settings.finds_lr:
        raise InvalidArgument(
            "sweep needs --lr X or --lr-range LOW HIGH, but got neither; "
            "`lrfinder run` finds the lr itself"
        )
    with importing():
        from lrfinder import commands

    with tasks_output(as_json), progress_shown(quiet) as progress:
        if settings is not None:
            finished = commands.start(settings, out, progress)
        else:
            finished = commands.go_on(Path(resume or ""), given, progress)
    print_run(finished, as_json=as_json)


def _find(options: dict[str, Any], *, out: Path | None, quiet: bool, as_json: bool) -> None:
    known = {k: v for k, v in asked(options).items() if k in FindSettings.model_fields}
    settings = settings_from(FindSettings, known)  # a settings file may hold more
    with importing():
        from lrfinder import commands

    if settings.one_by_one():
        with tasks_output(as_json), progress_shown(quiet) as progress:
            series = commands.find_each(settings, out, progress)
        print_series(series, as_json=as_json)
        suggestions = list(series.suggestions)
    else:
        with tasks_output(as_json), progress_shown(quiet) as progress:
            name, curve, suggestion = commands.find(settings, out, progress)
        print_found(name, curve, suggestion, as_json=as_json)
        suggestions = [suggestion]
    if all(one.lr is None for one in suggestions):
        raise typer.Exit(4)
