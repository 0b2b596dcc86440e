"""The command on a terminal, in a pipe, on a full disk, and interrupted more than once."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lrfinder
from lrfinder.cli import app
from lrfinder.cli.process import interrupt_on_signals, let_threads_sleep, stdout_kept_clean
from lrfinder.commands import start
from lrfinder.settings import RunSettings

LRFINDER = [sys.executable, "-m", "lrfinder"]
SMALL = ["--lr", "0.1", "--families", "step", "--trials", "2", "--confirm-seeds", "2"]
TASK = """
import ctypes, subprocess, time, torch, lrfinder
from torch import nn
from torch.utils.data import TensorDataset

print("at import")

class Net(nn.Linear):
    def forward(self, x):
        print("in forward")
        time.sleep({pause})
        return super().forward(x)

def make_task():
    ctypes.CDLL(None).puts(b"from C")
    subprocess.run(["echo", "from a process"], check=True)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    rows = TensorDataset(x, x[:, :1])
    return lrfinder.Task(
        model=lambda: Net(4, 1), train=rows, valid=rows, criterion=nn.MSELoss(), epochs=3,
        optimizer=lambda model, lr: torch.optim.SGD(model.parameters(), lr),
    )
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_task.py").write_text(TASK.format(pause=0))
    Path("slow.py").write_text(TASK.format(pause=0.01))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "r"
    options = {"lr": 0.1, "families": ["step"], "trials": 2, "confirm_seeds": 2, "epochs": 3}
    start(RunSettings(task="quadratic", **options), folder)
    return folder


def called(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([*LRFINDER, *words], text=True, check=False, **options)


@pytest.mark.parametrize(("before", "after"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_while_they_wait_unless_told_otherwise(monkeypatch, before, after):
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_the_command_says_so_before_torch_is_loaded():
    code = (
        "import atexit, os, sys; from lrfinder.cli import main; assert 'torch' not in sys.modules; "
        "atexit.register(lambda: print(os.environ['OMP_WAIT_POLICY'])); "
        "sys.argv[1:] = ['--help']; main()"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.endswith("passive\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full stands for a full disk")
@pytest.mark.parametrize("words", ["tasks", "--help", "--version", "report", "find quadratic"])
@pytest.mark.slow
def test_output_that_cannot_be_written_is_one_line(here, finished, words):
    more = [str(finished)] if words == "report" else []
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = called(*words.split(), *more, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    *_, last = done.stderr.splitlines()
    assert last == "lrfinder: the output cannot be written: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", ["tasks", "--help", "report"])
def test_a_closed_pipe_is_silence(here, finished, words):
    more = [str(finished)] if words == "report" else []
    reading, writing = os.pipe()
    os.close(reading)
    done = called(*words.split(), *more, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_closed_streams_are_no_failure(here):
    close = {"preexec_fn": lambda: os.closerange(1, 3)}
    assert called("tasks", **close).returncode == 0
    assert called("find", "nothing", **close).returncode == 3


@pytest.mark.slow
def test_characters_that_the_output_does_not_have_are_replaced(here, finished):
    asked = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = called("report", str(finished), env=asked, capture_output=True)
    assert done.returncode == 0
    assert "?" in done.stdout
    assert "Traceback" not in done.stderr


@contextmanager
def without_rights(folder: Path):
    """Let this process write nothing in a folder that it may read."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:  # whom no mode keeps from writing
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_folder_that_cannot_be_written_is_reported_all_the_same(finished):
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(shutil.copytree(finished, Path(name) / "r"))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        own = CliRunner().invoke(app, ["report", str(finished)])  # imports everything, too
        with without_rights(folder):
            result = CliRunner().invoke(app, ["report", str(folder)])
        assert result.exit_code == 0
        assert result.stdout == own.stdout.replace(str(finished), str(folder))
        (line,) = result.stderr.splitlines()
        assert line.startswith("note: nothing was written: ")
        assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("words", [["find"], ["sweep", *SMALL, "--out", "r"]])
@pytest.mark.slow
def test_what_a_task_prints_does_not_mix_with_json(here, words):
    words = [words[0], "my_task.py", *words[1:], "--json", "-q", "--engine", "sequential"]
    done = called(*words, capture_output=True)
    assert json.loads(done.stdout)["task"] == "my_task"
    said = {"at import", "in forward", "from C", "from a process"}
    assert set(done.stderr.splitlines()) == said


def test_stdout_comes_back_when_the_block_raises(capfd):
    def fails() -> None:
        with stdout_kept_clean():
            os.write(1, b"a process\n")
            print("python")  # noqa: T201
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fails()
    print("after")  # noqa: T201
    out, err = capfd.readouterr()
    assert out == "after\n"
    assert "a process" in err


def test_signals_that_follow_at_once_mean_what_the_first_one_meant():
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupt_on_signals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        for number in (*numbers, *numbers):
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    "sent",
    [
        [signal.SIGINT] * 5,
        pytest.param([signal.SIGTERM, signal.SIGINT, signal.SIGTERM], marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_interrupts_that_follow_each_other_leave_a_record(here, sent):
    command = [*LRFINDER, "sweep", "slow.py", *SMALL, "--trials", "40", "--out", "r", "-q"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not Path("r/curves.csv").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    for number in sent:
        process.send_signal(number)
        time.sleep(0.03)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.strip() == "lrfinder: interrupted; go on with `lrfinder run --resume r`"
    assert lrfinder.open_run("r").summary["status"] == "interrupted"
