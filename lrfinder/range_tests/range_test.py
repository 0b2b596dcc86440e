"""The learning-rate range test: grow the lr, record the loss, then train shortly at a few lrs.

The idea of the first half is old practice: start from a very small lr, raise it after every epoch,
record the loss or the accuracy of each epoch, and compare (Smith 2015, arXiv 1506.01186, made it
per batch). Here it is a population of runs, one per seed, whose schedule grows; the *probes* that
follow are another, whose schedule is constant. A parameter group has at every lr of the sweep the
lr that the task's optimizer, built for that lr, gives it.

Per batch, the loss of one *fixed* probe set (at most 256 rows) is recorded after every update: it
has far less noise than the loss of each batch. Per epoch, the whole validation set is. Where the
task has no validation set, up to 256 of its training rows, a fifth at most, are held out for it: on
rows that are trained on, short runs prefer an lr that overfits. At their end, the probes are
evaluated with the targets exchanged too: what they learnt of the inputs is the difference.

A sweep per epoch spends many updates on every lr, so it has learnt most there is to learn before
the best lr comes, and falls at a lower one; its probes, as long as the sweep or a whole training,
mend that.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lrfinder.checks import check_count, check_seeds
from lrfinder.errors import InvalidArgument
from lrfinder.range_tests import defaults
from lrfinder.range_tests.curve import Curve
from lrfinder.range_tests.limits import (
    Limits,
    only_with_probes,
    seconds_at_no_lr,
    timeout_note,
)
from lrfinder.range_tests.rules.probes import check_probes
from lrfinder.range_tests.rules.refusals import too_narrow
from lrfinder.range_tests.rules.rule import features_of
from lrfinder.range_tests.several_optimizers import works_against
from lrfinder.range_tests.trainings import Trainings
from lrfinder.schedules import GROWTHS
from lrfinder.tasks.problem import Problem, check_problem
from lrfinder.training.trainers.driven import check_trains
from lrfinder.training.trainers.trainer import AnyTrainer
from lrfinder.types import Every, Growth

_BELOW, _ABOVE = 1000.0, 100.0
"""By how much a range that is too narrow is widened."""


def range_test(
    task: Problem,
    *,
    min_lr: float = defaults.MIN_LR,
    max_lr: float = defaults.MAX_LR,
    steps: int | None = None,
    seeds: int | Sequence[int] = defaults.SEEDS,
    every: Every = defaults.EVERY,
    growth: Growth = defaults.GROWTH,
    probes: int = defaults.PROBES,
    widen: bool = True,
    cost: float | None = None,
    timeout: float | None = None,
    trainer: AnyTrainer | None = None,
    progress: Callable[[int], None] | None = None,
) -> Curve:
    """Train with a growing lr, then at a few constant ones, and record the loss.

    A seed costs the updates of the sweep, and those of 3 to `probes` probes. Where there are no
    probes, 8 more show whether the lr has any effect. A loop that drives several optimizers and
    measures nothing takes one more training of a probe's length for each, and one.

    Args:
        task: the problem; nothing of it is changed.
        min_lr, max_lr: lr of the first and of the last step.
        steps: how many learning rates; by default 100 per batch, 20 per epoch.
        seeds: how many whole tests, or their seeds.
        every: grow after every batch (update) or every epoch.
        growth: equal ratios ("exponential") or equal differences ("linear") between steps.
        probes: most runs at a constant lr per seed, at least 3; 0 for none, where training is dear.
            Each makes as many updates as `steps` says, or a tenth of the training, 120 to 200,
            where it does not, and no more than the training. There are none where the loss never
            fell in the sweep.
        widen: repeat the sweep once, in place of probes, where the range of lrs is too narrow:
            the loss still falls at max_lr (raised by 100), or already at min_lr (lowered by 1000),
            and not without learning too, as a sweep at next to no lr shows.
        cost: most updates that all seeds may take, as a share of a whole training: 0.05 for a
            twentieth. It sets the number and the length of the trainings, so that it excludes
            steps, probes and every; the interval is the wider for it.
        timeout: seconds after which the test ends, and answers from what there is; a note of the
            curve says so, as it does where updates become absurdly slow.
        trainer: what trains; by default the sequential trainer.
        progress: called with the number of updates made since the last call.

    Raises InvalidArgument for a range, steps or seeds that cannot be tested, and TaskFailed when
    the task's code raises or its loss is not finite before the first update.
    """
    check_problem(task)
    if trainer is not None:
        check_trains(trainer, task)
    _check(min_lr, max_lr, steps, seeds, every, growth)
    check_probes(probes)
    if timeout is not None and not timeout > 0:
        raise InvalidArgument(f"timeout must be a positive number of seconds, but got {timeout}")
    limits = Limits(timeout)
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    test = Trainings(
        task, numbers, steps, every, growth, trainer, progress, limits, probes=probes, cost=cost
    )
    limits.control = partial(seconds_at_no_lr, task, test.trainer, numbers[0])
    planned = len(numbers) * test.lengths.updates
    before = time.perf_counter()
    curve = test.sweep(min_lr, max_lr)
    if len(curve.lr) < 2:
        raise InvalidArgument(
            "timeout must be long enough for two steps of the range test, but there "
            f"{'was one' if len(curve.lr) else 'was none'} by then; give a longer one"
        )
    features = features_of(curve.lr, curve.loss, curve.start)
    narrow = too_narrow(features) if widen and probes and test.may_sweep_again else None
    settling = np.zeros(curve.loss.shape)
    if narrow == "below":  # perhaps the fall at the lowest lrs is none of learning
        settling = test.without_learning(curve)
        features = features_of(curve.lr, curve.loss - settling, curve.start)
        narrow = too_narrow(features)
    if narrow is not None and test.may_sweep_again:
        wider = (min_lr / _BELOW, max_lr) if narrow == "below" else (min_lr, max_lr * _ABOVE)
        again = test.sweep(*wider)
        if (again.seeds, len(again.lr)) == (curve.seeds, len(curve.lr)):  # no timeout cut it
            curve = replace(again, asked=(min_lr, max_lr))
            features = features_of(curve.lr, curve.loss - settling, curve.start)
    if probes:  # what further sweeps took is taken off them
        most = max(min(test.lengths.probes, test.probes_left), defaults.FEWEST_PROBES)
        curve = replace(curve, probes=test.probe(curve, features, most))
    if limits.out_of_time and curve.probes:
        curve = only_with_probes(curve, defaults.FEWEST_PROBES)
    if timeout is not None and test.out_of_time:
        test.notes.append(timeout_note(timeout, curve, len(numbers)))
    against = works_against(test, curve)
    matters = test.differ(curve) if curve.probes else test.lr_matters(curve)
    test.count_to(planned)
    return replace(
        curve,
        updates=test.trained,
        wall_seconds=time.perf_counter() - before,
        lr_matters=matters,
        against=against,
        notes=test.all_notes,
        unchecked=test.unchecked,
    )


def _check(
    min_lr: float,
    max_lr: float,
    steps: int | None,
    seeds: int | Sequence[int],
    every: str,
    growth: str,
) -> None:
    if not 0 < min_lr < max_lr < np.inf:
        raise InvalidArgument(
            f"0 < min_lr < max_lr must hold, but got (min_lr={min_lr:g}, max_lr={max_lr:g})"
        )
    if steps is not None and steps < 8:
        raise InvalidArgument(f"a range test needs at least 8 steps, but got {steps}")
    if isinstance(seeds, int):
        check_count("seeds", seeds)
    else:
        check_seeds(seeds)
    if every not in defaults.STEPS:
        raise InvalidArgument(f"every must be 'batch' or 'epoch', but got {every!r}")
    if growth not in GROWTHS:
        raise InvalidArgument(f"growth must be 'exponential' or 'linear', but got {growth!r}")
