"""The record of a run while it is made: the one writer of its summary."""

import time
from collections.abc import Sequence
from typing import Any

from lrfinder.comparison.candidates import Candidate, ConfirmedRun
from lrfinder.comparison.policy import Halving, Look
from lrfinder.comparison.ranking import Comparison
from lrfinder.experiment import Experiment
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.rules.suggestion import Suggestion
from lrfinder.results.answers import with_answers
from lrfinder.results.comparison_facts import ConfirmFacts
from lrfinder.results.folder import RunFolder
from lrfinder.results.range_test_facts import RangeTestFacts
from lrfinder.results.summary import RunSummary, Status
from lrfinder.training.records.history import History, note_on_raised
from lrfinder.tuning.trials import FamilyResult


class RunRecorder:
    """Writes what a run comes to into its folder, at once, so that it can be resumed from there."""

    def __init__(self, folder: RunFolder, summary: RunSummary, *, finished: bool = False) -> None:
        self.folder, self.summary = folder, summary
        self._finished = finished
        self.began = time.monotonic()
        """When it was started or resumed, by time.monotonic()."""
        self._spent_before = summary.cost.wall_seconds
        self._confirmed: list[ConfirmedRun] = []
        self._raised: list[str] = []

    def note(self, **facts: Any) -> None:  # noqa: ANN401 (values of the summary's fields)
        """Change the summary; the next save writes it."""
        self.summary = self.summary.changed(**facts)

    def save(self, status: Status) -> None:
        """Write the summary with this status.

        A run that was finished before stays as it is until something is trained.
        """
        if self._finished and status == "reporting":
            status = "complete"
        if self._finished and status != "complete":
            return
        self.note(status=status)
        if status != "complete":  # what the report says, it was written just before
            spent = round(self._spent_before + time.monotonic() - self.began, 3)
            self.note(cost=self.summary.cost.model_copy(update={"wall_seconds": spent}))
        self.folder.write_summary(self.summary)

    def range_test(self, curve: Curve, suggestion: Suggestion) -> None:
        """Write a range test and what it suggests."""
        self._finished = False
        self.folder.write_curve(curve)
        self.note(range_test=RangeTestFacts.of(curve), suggestion=suggestion)
        self.save("running")

    def trial(self, family: str, number: int, history: History) -> None:
        """Write the runs of a trial."""
        self._finished = False
        self.folder.append_curves("search", family, number, history)
        self._note_raised(history)
        self.save("running")

    def begin_comparison(self, known: Sequence[ConfirmedRun], halving: Halving) -> None:
        """Take the runs of the comparison that were made before."""
        self._confirmed, self._halving = list(known), halving

    def look(self, looks: Sequence[Look]) -> None:
        """Note who is trained on which seeds; it is written with the next run."""
        self.note(confirm=ConfirmFacts.of(self._halving, looks))

    def confirmed(self, run: ConfirmedRun, history: History) -> None:
        """Write a run of the comparison."""
        self._finished = False
        self._confirmed.append(run)
        self.folder.append_curves("confirm", run.candidate, None, history)
        self.folder.write_confirmed(self._confirmed)
        self._note_raised(history)
        self.save("running")

    def _note_raised(self, history: History) -> None:
        """Keep a note on all that the task raised in runs that have diverged by it."""
        raised = [message for message in history.raised if message is not None]
        if raised:
            before = {note_on_raised(self._raised)} if self._raised else set[str]()
            self._raised += raised
            notes = [note for note in self.summary.notes if note not in before]
            self.note(notes=[*notes, note_on_raised(self._raised)])

    def note_answers(
        self,
        experiment: Experiment,
        results: Sequence[FamilyResult],
        candidates: Sequence[Candidate],
        comparison: Comparison,
    ) -> None:
        """Put what the studies and the comparison say into the summary."""
        answered = with_answers(self.summary, experiment, results, candidates, comparison)
        self.summary = answered
