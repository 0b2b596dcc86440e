"""The leaderboard scores by laws, its cached oracle is that of its tasks, and its command works."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT))

from studies.leaderboard import finders, join, oracle, packages, results, table  # noqa: E402
from studies.leaderboard.__main__ import QUICK_TASKS, main  # noqa: E402
from studies.leaderboard.score import counted, regret, truth_of, truths  # noqa: E402
from studies.leaderboard.tasks import SHORT, task  # noqa: E402

LRS = [1e-3, 1e-2, 1e-1, 1.0]
SCHEDULES = ("constant", "cosine")


def rows(losses, start=2.0):
    """Rows of an oracle with two seeds that differ a little."""
    pairs = [(lr, loss + shift) for lr, loss in zip(LRS, losses, strict=True) for shift in (0, 0.1)]
    return pd.DataFrame(pairs, columns=["lr", "loss"]).assign(start=start)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SHORT)
def test_regret_is_0_at_the_best_lr_of_the_oracle(name, schedule):
    assert regret(name, truths(schedule)[name].best_lr, schedule) == 0


def test_regret_is_1_where_training_gains_nothing_and_above_the_grid():
    truth = truth_of(rows([1.5, 0.5, 1.9, 1.9], start=1.95))
    assert [truth.regret(lr) for lr in (1.0, 1.01, 1e6)] == [1, 1, 1]
    assert truth.regret(1e-3) == truth.regret(1e-9) == pytest.approx(1 / 1.4)
    assert truth.regret(10**-2.5) == pytest.approx(0.5 / 1.4)


@given(st.floats(), st.sampled_from(list(SHORT)), st.sampled_from(SCHEDULES))
def test_regret_is_between_0_and_1_whatever_the_lr(lr, name, schedule):
    assert 0 <= regret(name, lr, schedule) <= 1


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_an_lr_that_is_no_positive_number_loses_everything(lr):
    assert regret("mlp_sgd", lr) == 1


@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.floats(1e-4, 2))
def test_regret_is_free_of_scale_and_shift(scale, shift, lr):
    plain = rows([1.5, 0.5, 0.3, 1.9])
    moved = plain.assign(loss=plain.loss * scale + shift, start=plain.start * scale + shift)
    assert truth_of(moved).regret(lr) == pytest.approx(truth_of(plain).regret(lr), abs=1e-6)


def test_a_task_counts_where_the_drop_stands_out_of_the_noise():
    assert truth_of(rows([1.5, 0.5, 0.3, 1.9])).counts
    assert not truth_of(rows([1.9, 1.8, 1.75, 1.9])).counts


def test_the_cached_oracle_belongs_to_the_tasks_as_they_are():
    assert oracle.stale(SHORT) == []


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SHORT)
def test_the_oracle_is_dense_around_the_best_lr_and_has_10_seeds(name, schedule):
    found = pd.read_csv(oracle.FOLDER / f"{name}.csv")
    found = found[found.schedule == schedule]
    assert (found.groupby("lr").seed.nunique() == 10).all()
    truth = truths(schedule)[name]
    decades = np.log10(truth.lrs)
    near = decades[np.abs(decades - np.log10(truth.best_lr)) <= 0.5]
    assert np.diff(near).max() <= 0.15
    assert np.diff(decades).max() <= 0.51
    assert (decades[0], decades[-1]) == (-6, 1)


def test_there_are_enough_tasks_that_count_and_some_are_held_out():
    for schedule in SCHEDULES:
        assert len(counted(schedule)) >= 12
        assert len(counted(schedule, held_out=True)) >= 3
        both = counted(schedule, held_out=True) + counted(schedule, held_out=False)
        assert sorted(both) == sorted(counted(schedule))
    assert {SHORT[name].held_out for name in QUICK_TASKS} == {True, False}


def test_the_rules_find_the_landmarks_of_a_clear_curve():
    lrs = np.logspace(-6, 0, 61)
    at = np.arange(61)
    losses = np.select([at <= 20, at <= 40], [3 - at / 1e3, 2.98 - (at - 20) * 0.1], at - 39.02)
    assert finders.minimum(lrs, losses) == pytest.approx(lrs[40] / 10)
    assert lrs[20] <= finders.steep(lrs, losses) < lrs[40]
    assert lrs[17] < finders.valley(lrs, losses) < lrs[21]
    assert lrs[15] <= finders.slide(lrs, losses) <= lrs[45]


@given(st.integers(17, 90), st.integers(0, 99), st.floats(0, 2))
def test_valley_and_slide_agree_with_their_definitions_written_out(points, seed, fall):
    lrs, noise = np.logspace(-7, 1, points), np.random.default_rng(seed).normal(size=points + 8)
    losses = np.convolve(noise, np.ones(9) / 90, "valid") - np.linspace(0, fall, points)
    assert finders.valley(lrs, losses) == slow_valley(lrs, losses)
    assert finders.slide(lrs, losses) == slow_slide(lrs, losses)


def slow_valley(lrs, losses):
    """The point in the middle of as many as descend, up to where the longest descent ends."""
    descents = []
    for end, loss in enumerate(losses):
        before = [descents[k] for k in range(end) if losses[k] > loss]
        descents.append(1 + max(before, default=0))
    longest = max(descents)
    third = longest / 3
    return lrs[descents.index(longest) - longest + int(third) + int(third / 2)]


def slow_slide(lrs, losses, width=15, threshold=0.005):
    """The last left end, counted from the largest lr, of an interval whose slopes differ."""
    slopes, answer = np.gradient(losses), lrs[-1 - width]
    for right in range(len(lrs) - 1, width - 1, -1):
        if abs(slopes[right] - slopes[right - width]) <= threshold:
            break
        answer = lrs[right - width]
    return answer


@pytest.mark.parametrize("name", [*finders.OWN, *finders.RULES])
@pytest.mark.slow
def test_a_finder_gives_the_same_answer_for_the_same_seeds(name):
    finder = {**finders.OWN, **finders.RULES}[name]
    first = finder(task("mlp_sgd"), (3, 4))
    finders.sweep.cache_clear()
    assert finder(task("mlp_sgd"), (3, 4)).lr == first.lr
    assert first.lr is not None
    assert first.lr > 0
    assert (first.updates > 0) == (name != "optimizer default")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torch-lr-finder", "Ignite", "Lightning"])
def test_a_package_finds_an_lr_from_the_seed_alone(name):
    if name in packages.missing():
        pytest.skip(f"{name} is not installed")
    finder = packages.installed()[name]
    first, second = (finder(task("summed_loss"), (0,)) for _ in range(2))
    assert first.reason == ""
    assert first.lr == second.lr > 0
    assert 0 < first.updates <= 100


PROGRAM = """
from studies.leaderboard.join import serve

def find(model, optimizer, criterion, loader, epochs):
    print("this is no answer")
    inputs, targets = next(iter(loader))
    loss = criterion(model(inputs), targets)
    {ends}

serve(find)
"""


def in_a_program(folder, ends):
    file = folder / "finder.py"
    file.write_text(PROGRAM.format(ends=ends))
    return [sys.executable, str(file)]


@pytest.mark.slow
def test_a_finder_joins_from_a_program_of_its_own(tmp_path):
    says = "return {'lr': float(loss), 'low': 0.1, 'high': 9.0, 'updates': epochs}"
    found = join.score(in_a_program(tmp_path, says), ["mlp_sgd", "mlp_adam"], 2)
    assert found.lr.nunique() == 4
    assert found.refused.sum() == 0
    assert found.updates.tolist() == [task(name).epochs for name in found.task]
    assert found.regret.tolist() == [
        regret(*pair) for pair in zip(found.task, found.lr, strict=True)
    ]
    assert (found.low == 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        ("return None", "refused"),
        ("raise ValueError('too flat')", "ValueError: too flat"),
        ("raise SystemExit(7)", "the program ended with status 7"),
        ("return float('nan')", "suggested nan"),
    ],
)
def test_a_program_that_finds_nothing_refuses(tmp_path, ends, reason):
    found = join.score(in_a_program(tmp_path, ends), ["mlp_adam"], 2)
    assert found.reason.tolist() == [reason, reason]
    assert found.regret.tolist() == [regret("mlp_adam", 1e-3)] * 2


@pytest.mark.parametrize("lr", [None, float("nan"), -1.0, [0.1, 0.01], "0.1"])
def test_a_refusal_is_scored_as_the_default_lr_of_the_optimizer_and_listed(lr):
    def refuses(task, seeds):
        return finders.Answer(lr, reason="no minimum")

    found = results.collect({"this one": refuses}, ["mlp_adam"], repeats=2)
    assert found.refused.tolist() == [1, 1]
    assert found.regret.tolist() == [regret("mlp_adam", 1e-3)] * 2
    assert found.cosine_regret.tolist() == [regret("mlp_adam", 1e-3, "cosine")] * 2
    assert "| this one | mlp_adam | 2 |" in table.refusals(found)


def test_repeats_have_different_seeds_and_none_of_the_oracles():
    seen = []

    def remembers(task, seeds):
        seen.extend(seeds)
        return finders.Answer(0.1)

    results.collect({"this one": remembers}, ["mlp_sgd"], repeats=3)
    assert len(set(seen)) == len(seen) == 15
    assert not set(seen) & set(oracle.SEEDS)


def test_the_quick_command_works_on_one_task_and_one_finder(tmp_path, capsys):
    asked = [
        "--tasks",
        "mlp_sgd",
        "--finders",
        "lrfinder, sweep alone",
        "--out",
        str(tmp_path / "made"),
    ]
    main(["--quick", *asked])
    made = pd.read_csv(tmp_path / "made" / "results.csv")
    assert made.task.tolist() == ["mlp_sgd"] * 2
    assert "| lrfinder, sweep alone |" in capsys.readouterr().out
    assert "| lrfinder, sweep alone |" in (tmp_path / "made" / "table.md").read_text(
        encoding="utf-8"
    )
    assert (tmp_path / "made" / "regret.png").stat().st_size > 1000


def test_a_finder_whose_package_is_missing_is_left_out_and_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    part = ["--tasks", "summed_loss", "--finders", "optimizer default"]
    main([*part, "--repeats", "1", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    for name in ("torch-lr-finder", "Ignite", "Lightning"):
        assert f"{name} is not installed and left out" in said
        assert name not in results.finders()


def test_the_command_refuses_an_oracle_of_other_tasks(monkeypatch, tmp_path):
    monkeypatch.setattr(oracle, "INDEX", tmp_path / "none.csv")
    with pytest.raises(SystemExit, match=r"does not belong to mlp_sgd.*leaderboard\.oracle"):
        main(["--quick", "--tasks", "mlp_sgd", "--out", str(tmp_path / "made")])
