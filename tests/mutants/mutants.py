"""Faults that the tests must see: each is put in alone, and one of its tests must go red.

A constant need not be pinned; what it is for should be. An old text that is not found exactly once
means that the code has moved on: edit the mutant, or drop it where what it faulted is gone.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault: a text of a file replaced by another, and the tests that see it."""

    means: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _in(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Mutant]:
    """Faults in one file that the same tests see."""
    return [Mutant(means, file, old, new, tuple(tests.split())) for means, old, new in faults]


MUTANTS = [
    *_in(
        "schedules/lint.py",
        "tests/schedules/test_lint.py",
        ("a cosine that climbs back is not seen", "half >= seen.steps - 1", "half >= 1"),
        ("a late milestone is not seen", "if late and late[-1] >= seen.steps:", "if not late:"),
        ("a long patience is not seen", "patience <= seen.steps - 3", "patience <= seen.steps"),
        (
            "hardly any lr left is not seen",
            "_LEFT, _ENOUGH = 0.01, 0.1",
            "_LEFT, _ENOUGH = 0.0, 0.1",
        ),
    ),
    *_in(
        "schedules/spec.py",
        "tests/schedules/test_spec.py",
        ("warm-up is not taken off", "epochs * per_epoch - steps, per", "epochs * per_epoch, per"),
    ),
    *_in(
        "range_tests/series.py",
        "tests/range_tests/test_series.py",
        (
            "scatter beyond the intervals is no error",
            "max(1.0, float((weights",
            "min(1.0, float((weights",
        ),
    ),
    *_in(
        "range_tests/suggestion.py",
        "tests/range_tests/test_for_schedules.py",
        (
            "a floor is a share of the peak",
            "_shape(schedule, updates, updates_per_epoch, lr_ratios, peak)",
            "_shape(schedule, updates, updates_per_epoch, lr_ratios, 1.0)",
        ),
    ),
    *_in(
        "experiment.py",
        "lrfinder/experiment.py",
        ("the acts train on the same seeds", ".index(act) * third", ".index(act) * 0"),
        (
            "runs with other seeds train on the same",
            "seed * _SEEDS_PER_SEED",
            "0 * _SEEDS_PER_SEED",
        ),
    ),
    *_in(
        "tasks/random_states.py",
        "tests/tasks/test_random_states.py lrfinder/tasks/random_states.py",
        ("what a seed is for does not matter", "repr((seed, *labels))", "repr((seed,))"),
        ("a copy of a stream is not independent", "twin._states = self._states", "twin = self"),
    ),
    *_in(
        "tasks/sources.py",
        "tests/tasks/test_sources.py",
        (
            "every epoch has the same order",
            '"order", epoch, cycle))\n        order',
            '"order", cycle))\n        order',
        ),
        (
            "a last batch of one row is kept",
            "rows % batch_size == 1\n        self._per",
            "False\n        self._per",
        ),
    ),
    *_in(
        "training/record.py",
        "tests/training/test_training.py",
        (
            "lrs of updates that were not made are recorded",
            "np.where(made[:, None], lrs, np.nan)",
            "lrs",
        ),
        ("the last update is not evaluated", "every), self.updates]", "every)]"),
    ),
    *_in(
        "training/record.py",
        "tests/training/test_prefix_tree.py",
        (
            "shared updates count for every plan",
            "self.trained[rows[0]] +=",
            "self.trained[rows] +=",
        ),
    ),
    *_in(
        "training/prefix_tree.py",
        "tests/training/test_prefix_tree.py",
        (
            "forked runs share what is known of divergence",
            "copy.copy(branch.divergence)",
            "branch.divergence",
        ),
        ("plans part whenever they like", "if lrs.tobytes() not in parts:", "if not parts:"),
    ),
    *_in(
        "training/divergence.py",
        "tests/training/test_divergence.py",
        ("a run may rise ten times as far", "+ 3 * (self._start", "+ 30 * (self._start"),
        (
            "what came before is forgotten",
            "np.minimum.accumulate(medians), self._lowest",
            "np.minimum.accumulate(medians), np.inf",
        ),
    ),
    *_in(
        "training/history.py",
        "tests/training/test_training.py tests/tuning/test_search.py",
        (
            "a diverged run is stored with what it ended with",
            "start if lost else better(start, final)",
            "final",
        ),
    ),
    *_in(
        "training/speed.py",
        "tests/training/test_speed.py",
        ("evaluations cost nothing", " + evaluations * self.seconds_per_evaluation", ""),
        ("trials cost nothing", "evaluations) + self.overhead", "evaluations)"),
    ),
    *_in(
        "training/executors.py",
        "tests/training/test_executors.py",
        ("all plans go to one worker", "yield rows[first : first + most]", "yield rows[first:]"),
    ),
    *_in(
        "statistics.py",
        "tests/test_statistics.py",
        (
            "a corrected p may fall below an earlier one",
            "np.maximum.accumulate(raised)",
            "np.asarray(raised)",
        ),
        ("no correction for the number of tests", "value * (len(ordered) - rank)", "value"),
        ("an interval of half the level", "(1 + level) / 2", "level"),
        (
            "the deviation known from elsewhere does not count",
            "like_seeds * usual_deviation**2 +",
            "0 +",
        ),
        ("equal differences are certain", "2.0 ** (1 - n)", "0.0"),
    ),
    *_in(
        "checks.py",
        "tests/tuning/test_search.py tests/comparison/test_compare.py",
        ("a seed may stand twice", "if len(set(seeds)) < len(seeds):", "if False:"),
    ),
    *_in(
        "comparison/ranking.py",
        "tests/comparison/test_compare.py",
        ("one that diverged may tie", "name in p and lost[name] == 0 and", "name in p and"),
        (
            "one that diverged may be best",
            "(lost[name] > 0, sign * means[name])",
            "sign * means[name]",
        ),
    ),
    *_in(
        "comparison/candidates.py",
        "tests/comparison/test_compare.py",
        (
            "a run at another lr counts for a candidate",
            "(run.candidate, run.lr, run.schedule) == (self.name, self.lr,",
            "(run.candidate, 0, run.schedule) == (self.name, 0,",
        ),
    ),
    *_in(
        "comparison/compare.py",
        "tests/comparison/test_compare.py",
        ("known runs are made again", "if (c.name, seed) not in made]", "]"),
    ),
    *_in(
        "tuning/study.py",
        "tests/tuning/test_search.py",
        (
            "a study that goes on repeats its first trials",
            "space.family.name, existing)",
            "space.family.name, 0)",
        ),
    ),
    *_in(
        "tuning/stored.py",
        "tests/tuning/test_search.py",
        (
            "a study of something else is gone on with",
            "if made.get(name, value) != value:",
            "if False:",
        ),
        ("failed trials are forgotten", "if trial.number not in retried]", "if False]"),
        ("a trial that ended has the number of the one before", "= len(self.trials)\n", "= 0\n"),
    ),
    *_in(
        "tuning/trials.py",
        "tests/tuning/test_search.py",
        ("a diverged trial may be the best", "if not trial.diverged]", "]"),
        (
            "the worst trial is the best where more is better",
            'sign = 1 if self.space.direction == "minimize" else -1',
            "sign = 1",
        ),
    ),
    *_in(
        "tuning/lr_ranges.py",
        "tests/tuning/test_lr_ranges.py",
        (
            "ten times as far below the interval as promised",
            "{RULE: (2.0, 4.0)",
            "{RULE: (40.0, 4.0)",
        ),
        ("lrs that diverged are searched", "max(lr, min(high, edge))", "high"),
    ),
    *_in(
        "tuning/rounds.py",
        "tests/tuning/test_rounds.py",
        (
            "the comparison has no time left",
            "timeout - comparison_seconds, timeout / 2",
            "timeout, timeout / 2",
        ),
    ),
    *_in(
        "tuning/interrupts.py",
        "tests/tuning/test_interrupts.py",
        ("an interrupt is lost", "caught[:1]", "caught[:0]"),
    ),
    *_in(
        "results/answers.py",
        "tests/results/test_answers.py",
        ("a best lr at the bound is never said", "if lr > high / 1.05:", "if lr > high * 2:"),
    ),
    *_in(
        "results/folder.py",
        "tests/results/test_folder.py",
        ("of runs that stand twice the first is kept", 'keep="last"', 'keep="first"'),
        ("a cut last line runs into the next", "        file.truncate(size)\n", ""),
    ),
    *_in(
        "results/saved_run.py",
        "tests/results/test_damage.py",
        (
            "a run that stands twice is counted twice",
            'frame.duplicated(["candidate", "seed"]).any()',
            "False",
        ),
    ),
    *_in(
        "commands.py",
        "tests/test_run.py",
        (
            "a resumed run takes other options",
            "if made != got:",
            "if False:",
        ),
    ),
    *_in(
        "range_tests/longer_training.py",
        "tests/range_tests/test_longer_training.py",
        ("the lr of a long training is that of the probes", "now * stretch**-exponent", "now"),
        ("a short training gets a higher lr", "max(1.0, (budget", "max(0.1, (budget"),
        (
            "a move of the favoured lr counts the other way",
            "log2(before / now)",
            "log2(now / before)",
        ),
        (
            "a move of the favoured lr is believed without bounds",
            "np.clip(moved, *_MOST_MOVED)",
            "9 * moved",
        ),
        (
            "a loss that still falls lowers the lr more",
            "_MOST_MOVED) - rate",
            "_MOST_MOVED) + rate",
        ),
        ("the exponent has no bounds", "- rate, 0.0, 1.0))", "- rate, -9.0, 9.0))"),
        (
            "the rate is not a share of the fall",
            "/ (top - losses[best]) / math.log(2)",
            "/ math.log(2)",
        ),
        (
            "lrs that do equally well count by noise",
            "alike = math.hypot(_ALIKE * drop,",
            "alike = math.hypot(0.001 * drop, 0 *",
        ),
        (
            "a run that diverged counts as a good one",
            "np.minimum(finite(losses, np.inf), top + drop)",
            "finite(losses, lowest)",
        ),
        ("what never fell favours an lr", "if not drop > 0:", "if not drop >= 0:"),
        ("the interval does not grow upwards", "_USUAL[1] + _GROWS[1] * lowered", "_USUAL[1]"),
        (
            "the interval does not grow downwards",
            "_USUAL[0] + _GROWS[0] * (length - lowered)",
            "_USUAL[0]",
        ),
        ("the band knows nothing of the probes", "_BELOW[1] * as_good", "0 * as_good"),
        ("the band does not grow with the training", "+ _BELOW[2] * (length - lowered)", ""),
        ("the band's upper end does not grow", "_ABOVE[0] + _ABOVE[1] * lowered", "_ABOVE[0]"),
        ("a late lowest loss is a turn", "probe.lowest_at <= _EARLY * probe.updates", "True"),
        ("any rise is a turn", "probe.loss - probe.lowest >= _RISEN * fall", "True"),
    ),
    *_in(
        "range_tests/probes.py",
        "tests/range_tests/test_longer_training.py",
        (
            "a fall is measured from any start",
            "min([start, *(p.permuted for",
            "max([start, *(p.permuted for",
        ),
        ("probes stop at the lower end", "if best == 0:", "if best == -1:"),
        (
            "probes stop at the upper end",
            "if best == len(losses) - 1 else None",
            "if best == -1 else None",
        ),
        (
            "a probe is longer than the training",
            "return min(budget, max(_SHORTEST",
            "return max(1, max(_SHORTEST",
        ),
        (
            "one probe is taken for an answer",
            "if 0 < probes < FEWEST_PROBES:",
            "if 1 < probes < 1:",
        ),
    ),
    *_in(
        "range_tests/exchange.py",
        "tests/range_tests/test_exchange.py",
        ("targets keep their places", "chain.roll(1)", "chain"),
        ("inputs that are all alike are believed", "return Unchecked(SAME_INPUTS)", "pass"),
    ),
    *_in(
        "tasks/targets.py",
        "tests/tasks/test_targets.py",
        ("the batch itself gets the other target", "= copy.copy(cast(object, part))", "= part"),
    ),
]
