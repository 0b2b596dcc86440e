"""What the studies of claims say follows from their figures; random targets are refused."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"
sys.path.append(str(STUDIES))

from claims import verdict, verdicts  # noqa: E402
from claims_cases import CLAIMS, Case  # noqa: E402
from claims_tasks import new_classes, per_group, random_targets, with_outliers  # noqa: E402
from fairness import best_exponent  # noqa: E402
from markdown import markdown  # noqa: E402
from tuned import Problem, Records, way  # noqa: E402
from verdict_records import friedman  # noqa: E402

from lrfinder import fit, load_task, range_test  # noqa: E402
from lrfinder.cli import app  # noqa: E402
from lrfinder.statistics import Mean  # noqa: E402
from lrfinder.training.records.history import Plan  # noqa: E402


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    return pd.read_csv(STUDIES / "claims.csv")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["yes", "yes"], "holds"),
        (["yes", "no"], "depends on the task (yes in 1 of 2)"),
        (["yes", "open"], "depends on the task (yes in 1 of 2)"),
        (["no", "open"], "does not hold"),
        (["open", "open"], "cannot be told"),
    ],
)
def test_a_verdict_needs_all_cases(answers, said):
    assert verdict(answers) == said


@pytest.mark.parametrize(
    ("interval", "answer"),
    [((0.1, 9.0), "yes"), ((-3.0, -1.0), "no"), ((-0.4, 0.9), "no"), ((-3.0, 5.0), "open"),
     ((float("nan"),) * 2, "open")],
)  # fmt: skip
def test_a_case_is_answered_by_its_interval(interval, answer):
    assert Case("task", "what", Mean(sum(interval) / 2, *interval)).answer == answer


def test_every_claim_has_its_verdict_in_the_study_and_the_readme(found):
    said = verdicts(found)
    assert list(said["claim"]) == list(CLAIMS)
    assert markdown(said) in (STUDIES / "claims.md").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = dict(
        re.findall(r"^\| ([^|]+) \| (holds|does not hold|depends|cannot be told)", readme, re.M)
    )
    short = {claim: verdict.split(" on the task")[0] for claim, verdict, _ in said.to_numpy()}
    assert {claim: short.get(claim) for claim in table} == table
    assert len(table) == len(CLAIMS)


def test_answers_in_the_table_are_those_of_its_intervals(found):
    for one in found[found["answer"] != "beside"].itertuples():
        case = Case(one.task, one.difference, Mean(one.percent, one.low, one.high))
        assert case.answer == one.answer or min(abs(one.low), abs(one.high - 1)) <= 0.005


def test_random_targets_get_no_lr():
    suggestion = range_test(random_targets()).suggest()
    assert suggestion.lr is None
    assert suggestion.verdict == "inconclusive"
    assert "does not depend on the inputs" in suggestion.reason


@pytest.mark.slow
def test_find_refuses_random_targets_by_its_exit_status():
    asked = ["find", f"{STUDIES / 'claims_tasks.py'}:random_targets"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 4, result.output


def test_outliers_are_few_and_only_in_the_training_rows():
    clean = Problem("friedman", friedman(), 0.02)
    task = with_outliers(clean).task
    moved = (task.train.tensors[1] - clean.task.train.tensors[1]).abs().numpy()
    assert (moved > 0).mean() == pytest.approx(0.05)
    assert moved.max() > 4
    assert np.array_equal(task.valid.tensors[1], clean.task.valid.tensors[1])


def test_a_rule_per_group_gives_each_group_its_own_lrs():
    one = per_group("mine", body=lambda t: 0.5, head=lambda t: 0.1**t)
    assert len(new_classes().prototype.stand_in.param_groups) == 2
    rows = one.schedule(1.0).rows([0.1, 1.0], 2)
    assert rows.round(9).tolist() == [[0.5, 1.0], [0.5, 0.1]]


def test_the_lowest_point_of_a_parabola_is_found_between_the_lrs():
    exponents = np.arange(6.0)
    losses = np.exp((exponents - 2.3) ** 2)[:, None] * np.ones((6, 3))
    assert best_exponent(losses) == pytest.approx(2.3)


def test_a_way_is_tuned_to_an_lr_between_two_others_and_kept(tmp_path):
    task = load_task("linear")
    problem, constant = Problem("linear", task, 0.0005), way("constant", "constant")
    records = Records(tmp_path / "kept.csv")
    lr = records.tuned(problem, [constant], seeds=[1, 2])["constant"]
    near = [lr / 2, lr, lr * 2]
    losses = [records.column(problem, constant, x, [1, 2]).mean() for x in near]
    assert losses[1] == min(losses)
    again = Records(tmp_path / "kept.csv").column(problem, constant, lr, [1, 2])
    assert again.mean() == losses[1]
    plans = [Plan(lr, constant.schedule(lr), seed) for seed in (1, 2)]
    finals = [outcome.final for outcome in fit(task, plans).outcomes()]
    assert finals == pytest.approx(again.tolist(), rel=1e-4)
