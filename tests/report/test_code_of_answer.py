"""The code in the report is that for the program that was run."""

import pytest
from small_loops import small_loop
from small_tasks import linear_task, plain_sgd

import lrfinder
from lrfinder.errors import InvalidArgument
from lrfinder.report.dashboard_notes import Pages, study_note
from lrfinder.report.markdown import markdown
from lrfinder.report.wording import code_of, code_of_answer

SMALL = {"families": ["step"], "trials": 2, "trial_seeds": 1, "confirm_seeds": 2, "lr": 0.1}


def get_lr(it):
    return 0.1 if it < 6 else 0.05


KINDS = [
    ("torch", linear_task, {}),
    ("torch", small_loop, {}),
    ("torch", linear_task, {"baseline": 0.1}),
    ("function", linear_task, {"baseline": get_lr}),
    ("function", small_loop, {"baseline": get_lr}),
    ("torch", linear_task, {"baseline": get_lr, "code_for": "torch"}),
    ("skorch", linear_task, {"code_for": "skorch"}),
]


@pytest.mark.parametrize(("kind", "make", "fields"), KINDS)
def test_what_a_task_is_answered_in(kind, make, fields):
    assert make(**fields).code_for == kind


def test_the_report_and_the_notes_have_the_code_for_it(tmp_path):
    twice = {"optimizer": lambda model, lr: plain_sgd(model, 2 * lr)}
    task = linear_task(code_for="lightning", epochs=3, **twice)
    run = lrfinder.run(task, out=tmp_path / "run", progress=False, **SMALL)
    code = run.code("lightning")
    assert "def configure_optimizers(self):" in code
    lr = 2 * run.answers.winner.lr
    assert f"torch.optim.SGD(self.parameters(), lr={lr!r})" in code
    assert f"LR = {lr!r}  # lr of your SGD, which optimizer(model, " in run.code("torch")
    note = study_note(run, "step", Pages({"step": 1}), {})
    for text in (markdown(run), (run.path / "report.md").read_text(), note):
        assert f"```python\n{code}\n```" in text
    of_torch = run.answers.changed(code_for="torch")
    assert code_of_answer(of_torch) == code_of(run.answers.winner)
    unknown = run.answers.winner.model_copy(update={"codes": {}})
    assert code_of_answer(run.answers.changed(recommended=unknown)) == code_of(unknown)


def test_code_that_there_is_none_of_is_refused():
    with pytest.raises(InvalidArgument, match=r"code_for must be 'torch' or .*, but got 'keras'"):
        linear_task(code_for="keras")
