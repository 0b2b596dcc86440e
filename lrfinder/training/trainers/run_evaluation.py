"""The measures of one run of the sequential trainer, batch by batch and as a whole."""

from collections.abc import Callable, Sequence

from torch import Tensor

from lrfinder.tasks.data.batches import Batch
from lrfinder.tasks.fields.whole_measures import whole_measures
from lrfinder.tasks.task import Task
from lrfinder.tasks.user_code import describe
from lrfinder.training.trainers.evaluation import as_number, evaluation_stream
from lrfinder.training.trainers.training_run import TrainingRun

_MayGoOn = Callable[[Exception, Task, TrainingRun, Sequence[Batch]], bool]


class RunEvaluation:
    """The sums of one run's measures over rows, kept on its device: nothing waits for them."""

    def __init__(self, task: Task, run: TrainingRun, may_go_on: _MayGoOn) -> None:
        self._task, self._run, self._may_go_on = task, run, may_go_on
        self._random = evaluation_stream(run.measures.device)
        self.sums: dict[str, Tensor | float] = dict.fromkeys(task.means, 0.0)

    def add(self, batches: Sequence[Batch], rows: Sequence[float]) -> None:
        """Measure the batches, whose means weigh so many rows."""
        with self._random.active():
            for batch, weight in zip(batches, rows, strict=True):
                if self._run.raised is None:
                    self._add(batch, weight)

    def whole(self) -> Sequence[Tensor | float]:
        """The measures of the whole set, by name."""
        task, run = self._task, self._run
        if task.evaluate is None or run.raised is not None:
            return [float("nan")] * len(task.whole)
        try:
            with evaluation_stream(run.measures.device).active():
                values = whole_measures(task.evaluate, run.model, task.whole)
            return [as_number(name, value, run.measures.device) for name, value in values.items()]
        except Exception as error:
            self._lose(error, [])
            return [float("nan")] * len(task.whole)

    def _add(self, batch: Batch, weight: float) -> None:
        run = self._run
        try:
            for name, value in run.measures.measure(run.model, batch).items():
                self.sums[name] += weight * as_number(name, value, run.measures.device)
        except Exception as error:
            self._lose(error, [batch])
            self.sums = dict.fromkeys(self.sums, float("nan"))

    def _lose(self, error: Exception, batches: Sequence[Batch]) -> None:
        """Give the run up, or raise what is no divergence."""
        if not self._may_go_on(error, self._task, self._run, batches):
            raise error
        self._run.raised = describe(error)
