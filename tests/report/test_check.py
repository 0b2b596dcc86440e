"""`lrfinder check`: schedules, tasks, study files and run folders, without training."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrfinder.cli import app
from lrfinder.errors import InvalidArgument
from lrfinder.experiment import Experiment
from lrfinder.report.check import check
from lrfinder.settings import RunSettings

FINISHED = Path(__file__).parents[1] / "data" / "run_folders" / "schema-3-finished"
TASK = """
from small_tasks import linear_task
from torch.optim.lr_scheduler import StepLR
from lrfinder import Baseline
task = linear_task(epochs=10, baseline=Baseline(0.1, lambda o: StepLR(o, 30)))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checked_task.py").write_text(TASK)


def test_a_schedule_is_checked_for_so_many_epochs_or_for_a_task(here):
    assert "T_max=20" in check("cosine,T_max=10", epochs=20).found[0]
    assert check("cosine", epochs=20).found == []
    (found,) = check("step,step_size=40", task="checked_task.py").found
    assert "looks like updates, 4 to an epoch; step_size=10" not in found
    assert "never fires in 10 epochs" in found
    assert check("cosine,T_max=40", task="checked_task.py", per="batch").found == []
    assert "warm-up of 30" in check("cosine", epochs=20, warmup=30).found[0]


def test_a_schedule_is_known_by_torch_s_names_and_a_wrong_name_is_said():
    (found,) = check("StepLR(optimizer, step_size=30)", epochs=20).found
    assert "step_size=30 never fires in 20 epochs" in found
    assert "T_max=20" in check("CosineAnnealingLR,T_max=10", epochs=20).found[0]
    with pytest.raises(InvalidArgument, match="did you mean 'cosine'"):
        check("cosin,T_max=10", epochs=20)
    with pytest.raises(InvalidArgument, match=r"did you mean 'cosine'.*and no task .* called so"):
        check("cosin")
    with pytest.raises(InvalidArgument, match="brackets of a schedule must match"):
        check("torch.optim.lr_scheduler.StepLR(optimizer, 30", epochs=20)


def test_a_task_and_a_study_file_are_checked_by_their_baseline(here):
    (found,) = check("checked_task.py").found
    assert found.startswith("baseline: step_size=30 never fires in 10 epochs")
    assert check("checked_task.py", epochs=90).found == []
    Path("s.toml").write_text(
        'task = "checked_task.py"\nbaseline = "0.1,cosine,T_max=3,eta_min=0.0"\n'
        "lr_range = [0.001, 0.1]\nwarmup = 12\n"
    )
    climbs, warmup, edge = check("s.toml").found
    assert "T_max=10 falls all the way" in climbs
    assert warmup.startswith("warmup: 12 epochs are not shorter than the training of 10")
    assert edge.endswith("0.001 to 1 has it inside")


def test_a_run_folder_is_checked_candidate_by_candidate(tmp_path):
    assert len(check(str(FINISHED)).looked_at) == 3
    assert check(str(FINISHED)).found == []
    folder = Path(shutil.copytree(FINISHED, tmp_path / "r"))
    facts = json.loads((folder / "summary.json").read_text())
    facts["families"]["step"]["params"]["step_size"] = 7
    facts["families"]["step"]["at_lr_bound"] = "high"
    facts["families"]["step"]["schedule"] = "warmup 1 + StepLR(step_size=7, gamma=0.1)"
    start = {"study": None, "trials": 0, "params": {"T_max": 2, "eta_min": 0.0}}
    facts["families"]["start"] = facts["families"]["cosine"] | start
    (folder / "summary.json").write_text(json.dumps(facts))
    never, edge, climbs = check(str(folder)).found
    assert climbs.startswith("start: after 2 of the 6 epochs the cosine climbs back")
    assert "step_size=7 never fires in 5 epochs" in never
    assert "is at the edge of" in edge


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"what": "cosine"}, "give --epochs N, or --task"),
        ({"what": "cosine", "epochs": 5, "per": "batch"}, "needs --updates-per-epoch"),
        ({"what": "cosine,gamma=1", "epochs": 5}, "cosine has T_max, eta_min, but got 'gamma'"),
        ({"what": "digits", "warmup": 3.0}, "--warmup goes with a schedule"),
    ],
)
def test_what_cannot_be_checked_is_refused(asked, said):
    with pytest.raises(InvalidArgument, match=said):
        check(**asked)


def test_the_command_exits_with_4_where_something_was_found():
    words = ["check", "cosine,T_max=10", "--epochs", "20", "--json"]
    wrong = CliRunner().invoke(app, words)
    assert (wrong.exit_code, len(json.loads(wrong.stdout)["found"])) == (4, 1)
    right = CliRunner().invoke(app, ["check", "step,step_size=14", "--epochs", "20"])
    assert right.exit_code == 0
    assert right.stdout.endswith("depends on the task\nnothing wrong was found\n")
    assert CliRunner().invoke(app, ["check", "cosine", "--per", "hour"]).exit_code == 2


def test_a_run_notes_what_is_wrong_with_the_schedule_in_use(here):
    settings = RunSettings(task="checked_task.py", families=["step"], lr=0.1)
    (note,) = Experiment(settings).notes
    assert note.startswith("the baseline's schedule own StepLR(): step_size=30 never fires")
