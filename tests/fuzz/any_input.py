"""Words for the command, settings files and damages to a run folder, most of them wrong."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBERS = (
    "0", "1", "2", "3", "8", "9", "12", "-1", "0.5", "1e-3", "1e-300", "1e300", "5e-324", "nan",
    "inf", "-inf", "1e400", "1e18", "9" * 30, "0x10", "1_0", " 1", "1,2", "", "x", "ü", "None",
    "True", "-0", "--", "٣", "\x00", "\udcff", "a\nb", "[bold]1[/]",
)  # fmt: skip
WORDS = (
    "auto", "sequential", "batched", "cpu", "cuda", "mps", "cuda:0", "meta", "epoch", "batch",
    "exponential", "linear", "minimize", "maximize", "valid_loss", "loss", "accuracy", "",
    "[bold]", "a\nb", "ü" * 50, "x" * 5000, "../..", "/", "~", "*", "{}", "%s", "\x1b[31m",
)  # fmt: skip
FAMILIES = (
    "step", "cosine", "constant", "step,step", "step,", ",", "wsd,plateau", "STEP", "step,none",
    "one_cycle", "triangular,exponential_steps", "polynomial", "multistep,cosine_restarts", "[x]",
)  # fmt: skip
BASELINES = (
    "0.1", "0.1,step,step_size=30,gamma=0.1", "0.1,step", "0.1,step,step_size=x", "0.1,nothing",
    "nan", "-1", "0", "1e400", "0.1,step,gamma=0.1,gamma=0.2,step_size=1", "0.1,step,=", ",",
    "0.1,cosine,T_max=2,eta_min=0", "0.1,plateau,mode=max,factor=0.5,patience=0", "0.1,constant",
    "0.1,step,step_size=true,gamma=0.5", "0.1,step,step_size=1e3,gamma=0.5", "0.1=2", "",
)  # fmt: skip
STORAGES = (
    "sqlite:///s.db", "sqlite://", "sqlite:///", "sqlite:///no/such/folder/s.db", "nothing",
    "sqlite:////", "mysql://u:p@localhost/x", "sqlite:///a?b%20c.db", "http://x", "sqlite:///.",
    "postgresql://u:secret@127.0.0.1:1/x", "journal.log", "sqlite:///r/s.db", "://", "redis://x",
)  # fmt: skip
OPTIONS: dict[str, tuple[str, ...]] = {
    "--min-lr": NUMBERS, "--max-lr": NUMBERS, "--steps": NUMBERS, "--seeds": NUMBERS,
    "--find-seeds": NUMBERS, "--probes": NUMBERS, "--seed": NUMBERS, "--epochs": NUMBERS,
    "--trials": NUMBERS, "--trial-seeds": NUMBERS, "--confirm-seeds": NUMBERS, "--lr": NUMBERS,
    "--warmup": NUMBERS, "--timeout": NUMBERS, "--workers": NUMBERS, "--every": WORDS,
    "--growth": WORDS, "--device": WORDS, "--engine": WORDS, "--per": WORDS, "--objective": WORDS,
    "--direction": WORDS, "--families": FAMILIES, "--baseline": BASELINES, "--storage": STORAGES,
    "--lr-range": NUMBERS, "--nothing": WORDS, "--out": WORDS,
}  # fmt: skip
ENDLESS = {"1e18", "9" * 30, "1e300"}
"""Amounts that may be asked for, and are not tried here: of trials, epochs and workers."""
TASKS = (
    "quadratic", "t.py", "t.py:make_task", "nothing", "no.py", "t.py:nothing", "t:make_task",
    "os:getcwd", "json", "s.toml", ".", "", "t.py:", ":", "t.py:make_task:x", "/", "[bold]t.py[/]",
    "lrfinder.examples.digits", "a\nb.py", "empty.py", "broken.py", "latin.py", "folder.py",
    "exits.py", "interrupts.py", "returns_none.py", "a class.py:Net", "x" * 300 + ".py",
)  # fmt: skip
FILES = {
    "empty.py": b"",
    "broken.py": b"def make_task(:\n",
    "latin.py": "# coding: utf-8\nx = 'ü'\n".encode("latin-1"),
    "exits.py": b"import sys; sys.exit(0)\n",
    "interrupts.py": b"raise BaseException('odd')\n",
    "returns_none.py": b"def make_task():\n    return None\n",
}
VALUES: tuple[Any, ...] = (
    "0", "1", "3", "-1", "1e400", "nan", "inf", "-inf", "1.5", "true", "false", '"x"', '""',
    "[]", "{}", '["step"]', '["step", 1]', "[0.01, 0.1]", "[0.1, 0.01]", "[nan, 1]", "[1]",
    "1979-05-27", "07:32:00", "{ a = 1 }", '"cpu"', '"t.py"', '"epoch"', '"""a\nb"""', "0x10",
    "99999999999999999999999", "[[1, 2]]", '"\\u0000"', "'[bold]'", '"quadratic"',
)  # fmt: skip
KEYS = (
    "task", "min_lr", "max_lr", "steps", "every", "growth", "find_seeds", "probes", "seed",
    "device", "engine", "epochs", "families", "trials", "trial_seeds", "confirm_seeds", "lr",
    "lr_range", "per", "warmup", "objective", "direction", "baseline", "timeout", "storage",
    "workers", "epocs", "run", '""', '"a b"', "ü", "task.file", "[run]", "[[runs]]", "[x.y]",
)  # fmt: skip


def settings_file(random: random.Random) -> bytes:
    """A settings file of a few keys, most of them with values of another kind."""
    lines: list[str] = []
    for _ in range(random.randint(0, 4)):
        key, value = random.choice(KEYS), random.choice(VALUES)
        lines.append(f"{key}\n" if key.startswith("[") else f"{key} = {value}\n")
    data = "".join(lines).encode()
    return random.choice(BYTE_DAMAGES)(data, random) if random.random() < 0.3 else data


def _cut(data: bytes, random: random.Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _doubled(data: bytes, random: random.Random) -> bytes:
    return data + data[random.randint(0, len(data)) :]


def _no_utf_8(data: bytes, random: random.Random) -> bytes:
    place = random.randint(0, len(data))
    return (
        data[:place]
        + random.choice((b"\xff\xfe", b"\x00", b"\x80", b"\xed\xa0\x80"))
        + data[place:]
    )


def _line_lost(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        del lines[random.randrange(len(lines))]
    return b"".join(lines)


def _line_twice(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        lines.insert(random.randrange(len(lines)), random.choice(lines))
    return b"".join(lines)


def _lines_mixed(data: bytes, random: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    random.shuffle(lines)
    return b"".join(lines)


def _word_changed(data: bytes, random: random.Random) -> bytes:
    old = random.choice((b"0.", b"1", b",", b'"', b"true", b"constant", b"step", b"\n", b"[", b"e"))
    new = random.choice(
        (b"", b"nan", b"-1", b"null", b'"', b"1e999", b",,", b"\xc3\xbc", b"[[", b"x")
    )
    return data.replace(old, new, random.choice((1, -1)))


def _windows_lines(data: bytes, random: random.Random) -> bytes:
    return data.replace(b"\n", b"\r\n")


def _with_mark(data: bytes, random: random.Random) -> bytes:
    return b"\xef\xbb\xbf" + data


BYTE_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut, _doubled, _no_utf_8, _line_lost, _line_twice, _lines_mixed, _word_changed,
    _windows_lines, _with_mark, lambda data, random: b"", lambda data, random: b"\x00" * len(data),
)  # fmt: skip
LOSSES = (_cut, _line_lost)
"""Damages that only lose something of a table."""


def damage(folder: Path, random: random.Random) -> str:
    """Damage one or two files of a run folder; says which and how."""
    said: list[str] = []
    for _ in range(random.choice((1, 1, 2))):
        file = random.choice(sorted(path for path in folder.iterdir() if path.is_file()))
        how = random.choice(("bytes", "bytes", "bytes", "missing", "folder", "other", "link"))
        if how == "bytes":
            harm = random.choice(BYTE_DAMAGES)
            file.write_bytes(harm(file.read_bytes(), random))
            how = harm.__name__
        else:
            other = random.choice(sorted(path for path in folder.iterdir() if path.is_file()))
            data = other.read_bytes()
            file.unlink()
            if how == "folder":
                file.mkdir()
            elif how == "link":
                file.symlink_to(file.name)
            elif how == "other":
                file.write_bytes(data)
                how = f"bytes of {other.name}"
        said.append(f"{file.name}: {how}")
        if not any(path.is_file() for path in folder.iterdir()):
            break
    return "; ".join(said)


def copied(folder: Path, to: Path) -> Path:
    """A fresh copy of a folder at this place."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))
