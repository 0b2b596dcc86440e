"""A run folder holds what the run found: read back, nothing is lost or computed anew."""

from dataclasses import asdict

import numpy as np
import pytest

from lrfinder.commands import find, go_on, start
from lrfinder.comparison import compare
from lrfinder.errors import Interrupted, InvalidArgument, RunFolderError
from lrfinder.experiment import Experiment, training_seeds
from lrfinder.range_tests import curve, trainings
from lrfinder.report.progress import Silent
from lrfinder.results.facts import jsonable
from lrfinder.results.folder import RunFolder
from lrfinder.results.opening import open_run
from lrfinder.settings import FindSettings, RunSettings
from lrfinder.training.speed import threads

SETTINGS = RunSettings(
    task="classifier",
    epochs=3,
    families=["step"],
    trials=2,
    confirm_runs=12,
    find_seeds=2,
    steps=40,
    probes=3,
    engine="sequential",
)

CANDIDATES = 4  # constant, step, the start and the task's baseline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run."""
    return start(SETTINGS, tmp_path_factory.mktemp("runs") / "r")


def test_the_curve_comes_back_as_it_was_measured(run):
    asked = SETTINGS.model_dump(include=set(FindSettings.model_fields))
    _, again, _ = find(FindSettings(**asked))
    for name in ("lr", "loss", "train_loss", "start"):
        np.testing.assert_allclose(getattr(run.curve, name), getattr(again, name), rtol=1e-12)
    np.testing.assert_allclose(run.curve.metrics["accuracy"], again.metrics["accuracy"])
    assert np.isnan(run.curve.loss).any()  # it diverged, so this was worth testing
    assert (run.curve.seeds, run.curve.every) == (again.seeds, again.every)


def test_the_suggestion_comes_back_as_it_was_read_off_the_curve(run):
    assert jsonable(asdict(run.suggestion)) == run.summary["suggestion"]
    read_again = run.curve.suggest()
    assert (run.suggestion.verdict, run.suggestion.reason) == (
        read_again.verdict,
        read_again.reason,
    )
    assert run.suggestion.lr == pytest.approx(read_again.lr, rel=1e-12)


def test_nothing_that_a_folder_holds_is_made_again(run, monkeypatch):
    for module, name in ((curve, "suggest"), (compare, "at_work"), (trainings, "fit")):
        monkeypatch.setattr(module, name, None)  # whoever calls it fails
    again = open_run(run.path)
    assert again.suggestion is not None
    assert again.curve is not None
    assert len(again.comparison.runs) == SETTINGS.confirm_runs
    assert again.comparison.frame().equals(run.comparison.frame())
    for name in ("trials", "curves", "confirmed", "mean_curves"):
        assert len(getattr(again, name)) > 0


def test_the_comparison_comes_back(run):
    assert run.comparison.best.candidate == run.summary["best"]["family"]
    assert set(run.comparison.seeds) == set(training_seeds("confirm", 0, 3))
    for name, facts in run.summary["families"].items():
        mean = run.comparison.mean(name, "loss")
        assert mean.mean == pytest.approx(facts["valid_loss"]["mean"], rel=1e-12)


def search_runs(run):
    """Runs of the studies: of each trial, and of those that were trained on another seed."""
    trials = sum(facts["trials"] for facts in run.summary["families"].values())
    again = int(run.trials["value_again"].count())
    assert again == 2  # both constant lrs
    return trials * SETTINGS.trial_seeds + again


def test_curves_hold_every_run_and_epoch(run):
    curves = run.curves
    epochs = Experiment(SETTINGS).task.epochs
    assert len(curves[curves["act"] == "search"]) == search_runs(run) * (epochs + 1)
    confirmed = curves[curves["act"] == "confirm"]
    assert len(confirmed) == CANDIDATES * 3 * (epochs + 1)
    assert set(run.mean_curves) == set(run.summary["families"])
    final = run.mean_curves["step"].iloc[-1]
    last = final["valid_loss"]
    assert final["valid_loss_min"] < last < final["valid_loss_max"]
    stated = run.summary["families"]["step"]["valid_loss"]["mean"]
    assert last == pytest.approx(stated, rel=1e-9)


def test_trials_hold_every_complete_trial(run):
    assert sorted(run.trials["family"].unique()) == ["constant", "step"]
    assert {"lr", "gamma", "step_size", "value", "diverged"} <= set(run.trials.columns)


def test_seeds_of_the_acts_are_disjoint(run):
    seeds = run.summary["seeds"]
    every = [*seeds["find"], *seeds["search"], *seeds["confirm"]]
    assert len(set(every)) == len(every)


def test_costs_add_up(run):
    problem, cost = Experiment(SETTINGS), run.summary["cost"]
    runs = search_runs(run) + SETTINGS.confirm_runs
    assert cost["updates_asked"] == problem.find_updates + runs * problem.updates
    assert 0 < cost["updates_trained"] <= cost["updates_asked"]


def test_what_was_trained_on_another_seed_is_kept_and_counted(tmp_path):
    asked = SETTINGS.model_copy(update={"trials": 3})
    run = start(asked, tmp_path / "again")
    again = run.trials.dropna(subset="value_again")
    assert again.groupby("family").size().to_dict() == {"constant": 3, "step": 2}
    for family, own in again.groupby("family"):
        facts = run.answers.families[family]
        means = own.set_index("trial")[["value", "value_again"]].mean(axis=1)
        assert (facts.best_trial, facts.search_value) == (means.idxmin(), means.min())
    curves = run.curves[run.curves["act"] == "search"]
    assert len(curves) == (len(run.trials) + len(again)) * 4
    assert set(curves["seed"]) == set(training_seeds("search", 0, 2))
    problem, runs = Experiment(asked), len(run.trials) + len(again) + asked.confirm_runs
    assert run.answers.cost.updates_asked == problem.find_updates + runs * problem.updates
    assert problem.search_work().runs == len(run.trials) + len(again)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    folder = RunFolder.create(tmp_path / "r")
    folder.write_text("report.md", "old")

    def fails(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunFolderError, match="cannot be written: No space left"):
        folder.replace("report.md", fails)
    assert (folder.path / "report.md").read_text() == "old"
    assert sorted(p.name for p in folder.path.iterdir()) == ["report.md"]


def test_a_cut_off_line_of_curves_does_not_spoil_the_next(run, tmp_path):
    folder = RunFolder.create(tmp_path / "r")
    text = (run.path / "curves.csv").read_text()
    whole, _, rest = text.partition("\n")
    cut = whole + "\n" + rest[: len(rest) // 2]
    (folder.path / "curves.csv").write_text(cut)
    history = _history()
    folder.append_curves("confirm", "step", None, history)
    lines = (folder.path / "curves.csv").read_text().splitlines()
    assert {line.count(",") for line in lines} == {whole.count(",")}


def _history():
    from lrfinder.schedules import FAMILIES, Schedule
    from lrfinder.training.fit import fit
    from lrfinder.training.records.history import Plan

    problem = Experiment(SETTINGS)
    return fit(problem.task, [Plan(0.01, Schedule(FAMILIES["constant"]), 0)])


@pytest.mark.parametrize("text", ["", "not json", '{"schema": 99}'])
def test_a_folder_that_cannot_be_read_is_told(tmp_path, text):
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(RunFolderError, match=str(tmp_path)):
        open_run(tmp_path)


class Stops(Silent):
    """Interrupts a run where it would say its first word."""

    def say(self, text):
        raise KeyboardInterrupt


def test_a_run_ended_before_its_first_summary_is_resumed_from_its_config(tmp_path):
    folder = tmp_path / "r"
    with pytest.raises(Interrupted):
        start(SETTINGS, folder, Stops())
    (folder / "summary.json").unlink()
    with pytest.raises(RunFolderError, match=f"no summary.json yet; .*--resume {folder}"):
        open_run(folder)
    with pytest.raises(RunFolderError, match="trials must stay 2"):
        go_on(folder, {"trials": 3})
    finished = go_on(folder, {})
    assert finished.summary["status"] == "complete"
    assert set(finished.summary["families"]) >= {"constant", "step"}
    assert finished.comparison.seeds == tuple(training_seeds("confirm", 0, 3))


def test_a_run_that_could_not_write_its_config_leaves_no_folder(tmp_path, monkeypatch):
    def interrupted(self, config):
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "write_config", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(SETTINGS, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_what_chose_the_trainer_is_said_again_on_go_on(tmp_path):
    said = []

    class Listens(Silent):
        def say(self, text):
            said.append(text)

    first = start(SETTINGS.model_copy(update={"engine": "auto"}), tmp_path / "r")
    again = go_on(tmp_path / "r", {}, Listens())
    reason = first.summary["engine"]["reason"]
    assert reason != "as asked"
    assert again.summary["engine"] == first.summary["engine"]
    assert any(line.startswith("sequential trainer") and reason in line for line in said)
    assert any(line.startswith("the run is finished") for line in said)
    assert not any("updates" in line and "about" in line for line in said)


def test_json_has_no_nan():
    given = {"a": [float("nan"), np.float64("inf"), np.int64(3)], "b": (1.5, None, True)}
    assert jsonable(given) == {"a": [None, None, 3], "b": [1.5, None, True]}


def test_too_many_seeds_are_refused():
    with pytest.raises(InvalidArgument, match="at most 1000 seeds"):
        training_seeds("find", 0, 1001)


def test_threads_are_given_back():
    import torch

    before = torch.get_num_threads()
    with threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_silent_progress_is_silent(capsys):
    silent = Silent()
    silent.stage("act", 3)
    silent.advance(1)
    silent.say("nothing")
    assert capsys.readouterr() == ("", "")
