"""Run the leaderboard: python -m studies.leaderboard [--quick] [--repeats N] [--tasks ...]."""

import argparse
import platform
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from studies.leaderboard import VERSION, picture, table
from studies.leaderboard.finders import CAPPED
from studies.leaderboard.join import joined
from studies.leaderboard.long_oracle import stale as other
from studies.leaderboard.oracle import stale
from studies.leaderboard.packages import missing
from studies.leaderboard.results import collect, finders, merged, runs
from studies.leaderboard.tasks import TASKS

HERE = Path(__file__).parent
QUICK_TASKS = ("mlp_sgd", "cnn_batchnorm", "raw_inputs", "tiny_batches", "denoising", "factors")
"""Four to tune on and two held out."""
QUICK_REPEATS = 2


def main(words: Sequence[str] | None = None) -> None:
    """Measure every finder on every task, and write results.csv, table.md and regret.png."""
    asked = _arguments(words)
    of_kind = [name for name, entry in TASKS.items() if asked.kind in (None, entry.kind)]
    names = asked.tasks or (list(QUICK_TASKS) if asked.quick else of_kind)
    repeats = asked.repeats or (QUICK_REPEATS if asked.quick else 5)
    part = asked.quick or asked.tasks or asked.finders or asked.repeats or asked.kind or asked.join
    folder = asked.out or (Path("runs/leaderboard") if part else HERE)
    if asked.merge:
        rows = pd.read_csv(HERE / "results.csv")
        for other in asked.merge:
            rows = merged(rows, pd.read_csv(other / "results.csv"))
        _write(rows, asked.out or HERE)
        return
    wanted = asked.finders or [name for name in finders() if name not in CAPPED]
    chosen = {name: finder for name, finder in finders().items() if name in wanted}
    _refuse_stale(names)
    torch.set_num_threads(1)
    print(_conditions(len(names), repeats))
    for name in missing():
        print(f"{name} is not installed and left out (studies/leaderboard/requirements.txt)")
    with ExitStack() as programs:
        for name, command in asked.join:
            chosen[name] = programs.enter_context(joined(command))
        rows = collect(chosen, names, repeats, lambda line: print(line, flush=True))
    _write(rows, folder)
    print(f"\n{table.ranking(table.summary(rows))}\n\n{folder}/results.csv, table.md, regret.png")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m studies.leaderboard", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="6 tasks and 2 repeats: 2 minutes")
    parser.add_argument("--repeats", type=int, help="of every finder on every task; 5")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), help="only these")
    parser.add_argument("--kind", choices=list(table.KINDS), help="only tasks of this kind")
    parser.add_argument("--finders", nargs="+", choices=list(finders()), help="only these")
    parser.add_argument(
        "--join",
        action="append",
        default=[],
        type=_program,
        metavar="NAME=COMMAND",
        help="another finder, from a program of its own (studies/leaderboard/join.py)",
    )
    parser.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="run nothing: put the results of these folders into those that are here",
    )
    parser.add_argument("--out", type=Path, help="folder; this one, or runs/leaderboard for a part")
    return parser.parse_args(words)


def _program(text: str) -> tuple[str, list[str]]:
    name, _, command = text.partition("=")
    if not (name and command):
        raise argparse.ArgumentTypeError(f"must look like NAME=COMMAND, but got {text!r}")
    return name, shlex.split(command)


def _refuse_stale(names: Sequence[str]) -> None:
    short = [name for name in names if TASKS[name].kind == "short"]
    long = [name for name in names if TASKS[name].kind != "short"]
    for module, old in (("oracle", stale(short)), ("long_oracle", list(filter(other, long)))):
        if old:
            raise SystemExit(
                f"the cached oracle does not belong to {', '.join(old)}; "
                f"make it with: python -m studies.leaderboard.{module}"
            )


def _conditions(tasks: int, repeats: int) -> str:
    """Tasks, repeats, machine and versions, in one line."""
    packages = ("torch", "lrfinder", "torch-lr-finder", "pytorch-ignite", "lightning")
    left_out = {"Ignite": "pytorch-ignite", "Lightning": "lightning"}
    gone = {left_out.get(name, name) for name in missing()}
    versions = ", ".join(f"{name} {version(name)}" for name in packages if name not in gone)
    return (
        f"leaderboard {VERSION}: {tasks} tasks, {repeats} repeats, one thread; "
        f"{platform.machine()} {platform.system()}, Python {platform.python_version()}; {versions}"
    )


def _write(rows: pd.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.to_csv(folder / "results.csv", index=False, float_format="%.4g")
    of_runs = runs(rows)
    conditions = _conditions(rows.task.nunique(), rows.repeat.nunique())
    conditions += f"; {of_runs}" if of_runs else ""
    (folder / "table.md").write_text(f"{conditions}\n\n{table.written(rows)}", encoding="utf-8")
    short = rows[rows.kind == "short"]
    picture.save(rows if short.empty else short, folder / "regret.png")


if __name__ == "__main__":
    main()
