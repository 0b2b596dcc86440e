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
        "schedules/lint/lengths.py",
        "tests/schedules/test_lint.py",
        ("a cosine that climbs back is not seen", "half >= seen.steps - 1", "half >= 1"),
        ("a late milestone is not seen", "if late and late[-1] >= seen.steps:", "if not late:"),
        ("a long patience is not seen", "patience <= seen.steps - 3", "patience <= seen.steps"),
    ),
    *_in(
        "schedules/lint/lrs.py",
        "tests/schedules/test_lint.py",
        ("hardly any lr left is not seen", "LEFT, _ENOUGH = 0.01, 0.1", "LEFT, _ENOUGH = 0.0, 0.1"),
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
        "range_tests/rules/suggestion.py",
        "tests/range_tests/rules/test_for_schedules.py",
        (
            "a floor is a share of the peak",
            "_shape(schedule, updates, updates_per_epoch, lr_ratios, peak)",
            "_shape(schedule, updates, updates_per_epoch, lr_ratios, 1.0)",
        ),
    ),
    *_in(
        "experiment/seeds.py",
        "lrfinder/experiment/seeds.py",
        ("the acts train on the same seeds", ".index(act) * SEEDS_PER_ACT", ".index(act) * 0"),
        (
            "runs with other seeds train on the same",
            "seed * _SEEDS_PER_SEED",
            "0 * _SEEDS_PER_SEED",
        ),
    ),
    *_in(
        "tasks/state/random_states.py",
        "tests/tasks/state/test_random_states.py lrfinder/tasks/state/random_states.py",
        ("what a seed is for does not matter", "repr((seed, *labels))", "repr((seed,))"),
        ("a copy of a stream is not independent", "twin._states = self._states", "twin = self"),
    ),
    *_in(
        "tasks/fields/measures.py",
        "tests/tasks/fields/test_losses.py",
        (
            "the loss that is trained is compared too",
            'functions | {"loss": valid_loss}',
            'functions | {"loss": functions["loss"]}',
        ),
        (
            "every measure makes a forward pass of its own",
            "name: f(*arguments) for",
            "name: f(*self._arguments(model, batch)) for",
        ),
        (
            "a valid_loss must be a tensor",
            '"loss" not in values or VALID_LOSS in self.by_name',
            '"loss" not in values',
        ),
    ),
    *_in(
        "tasks/fields/whole_measures.py",
        "tests/tasks/fields/test_whole_measures.py",
        (
            "evaluate may return other measures later",
            "names is not None and set(values) != set(names)",
            "False",
        ),
        ("a whole measure may have a metric's name", "if name in metrics", "if False"),
    ),
    *_in(
        "tasks/fields/lengths.py",
        "tests/tasks/data/test_step_based.py",
        ("the advised number of updates is no multiple", "round(updates / part)) * part", "1) * 3"),
        ("epochs that contradict are ignored", "epochs not in (EPOCHS, made)", "False"),
    ),
    *_in(
        "tasks/data/drawn_batches.py",
        "tests/tasks/data/test_step_based.py",
        ("a replaced valid_size is not taken", "(draw, count):", "(draw, dataset.count):"),
    ),
    *_in(
        "tasks/fields/baseline.py",
        "tests/tasks/fields/test_baseline.py",
        ("get_lr is read per epoch", 'per="batch"), per="batch")', 'per="epoch"), per="epoch")'),
        ("get_lr is scaled by its first lr", "/ peak)", "/ lrs[0])"),
        ("a period that is said is not kept", " or self.per is not None", ""),
    ),
    *_in(
        "training/rehearsal.py",
        "tests/tasks/fields/test_baseline.py",
        (
            "every plateau follows the objective",
            "watch if named is None else",
            "watch if task else",
        ),
    ),
    *_in(
        "training/trainers/training_run.py",
        "tests/training/trainers/test_float16.py",
        (
            "a fork begins with a new scale",
            "twin.load_state_dict(self.scaler",
            "twin.state_dict() or (self.scaler",
        ),
        ("scaled gradients are clipped", "run.scaler.unscale_(run.optimizer)", "pass"),
        ("the scale never changes", "    run.scaler.update()", "    pass"),
    ),
    *_in(
        "tasks/state/kept_state.py",
        "tests/tasks/state/test_kept_state.py",
        ("means of a batch norm are not put back", " or _moved(value, before)", ""),
    ),
    *_in(
        "tasks/data/sources/training.py",
        "tests/tasks/data/test_sources.py",
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
        "training/records/record.py",
        "tests/training/test_training.py",
        (
            "lrs of updates that were not made are recorded",
            "np.where(made[:, None], lrs, np.nan)",
            "lrs",
        ),
        ("the last update is not evaluated", "every), self.updates]", "every)]"),
    ),
    *_in(
        "training/records/record.py",
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
        "training/records/history.py",
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
        "training/executors/submitting.py",
        "tests/training/executors/test_executors.py",
        ("all plans go to one worker", "yield rows[first : first + most]", "yield rows[first:]"),
        (
            "shared beginnings are torn apart",
            "together(plans, min(capacity, most))",
            "([[r]] for r in range(len(plans)))",
        ),
        ("what a dead worker held is lost", "todo.append(rows)", "pass"),
        ("a dead worker ends the run", "deaths[rows[0]] == TRIES", "True"),
        ("a share of a card holds as much as the whole", "setup.task) * share", "setup.task)"),
        (
            "errors of the task are no errors",
            "            raise returned\n",
            "            raise TypeError\n",
        ),
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
        ("one that diverged may tie", " and name not in results.lost and both", " and both"),
        (
            "one that diverged may be best",
            "return name in results.lost, -at[name]",
            "return False, -at[name]",
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
        ("known runs are made again", "if (name, seed) not in self._made", "if seed is not None"),
    ),
    *_in(
        "tuning/shares.py",
        "tests/tuning/test_scout.py",
        (
            "nobody waits for the lr",
            "if scout is not None and looked is not None and not looked.ended:",
            "if False:",
        ),
        ("families begin in any order", "told[k].rank))[:", "-k))[:"),
        ("what it took to find the lr comes on top", "budget - took + 1)]", "budget)]"),
        ("all trials may look for the lr", "families * trials // 2)", "families * trials)"),
    ),
    *_in(
        "tuning/samplers.py",
        "tests/tuning/test_scout.py",
        ("one trial may find the lr", "range(min(first, most), min(len", "range(1, min(len"),
    ),
    *_in(
        "tuning/space.py",
        "tests/tuning/test_scout.py",
        (
            "an lr that was found leaves the range",
            "lr = min(self.lr_high, max(self.lr_low, self.lr_default * factor))",
            "lr = self.lr_default * factor",
        ),
    ),
    *_in(
        "tuning/study.py",
        "tests/tuning/test_scout.py",
        ("families begin at the suggested lr", "self._space.moved(factor)", "self._space"),
        ("the worst lr is handed on", "return min(results)[1] /", "return max(results)[1] /"),
        ("other lrs are tried with other parameters", "{**self._first[0], ", "{"),
        (
            "families that were cut off wait for ever",
            "if took is None and not over:",
            "if took is None:",
        ),
    ),
    *_in(
        "tuning/trials.py",
        "tests/tuning/test_second_looks.py",
        (
            "one that diverged on the other seed may be the best",
            "held = [one for one in self._usable if not one.lost_with(one.looks)]",
            "held = list(self._usable)",
        ),
        (
            "luck on one seed decides",
            "key=lambda trial: self._sign * trial.mean",
            "key=lambda trial: 0",
        ),
        (
            "the worst are looked at again",
            "key=lambda one: self._sign * one.mean_with(made))",
            "key=lambda one: -self._sign * one.mean_with(made))",
        ),
        (
            "the search's one seed decides who goes on",
            "self._sign * one.mean_with(made))",
            "self._sign * one.value)",
        ),
        ("all constant lrs go on", "one.mean_with(made))[: stage.trials]", "one.mean_with(made))"),
        (
            "an lr that diverged on the way goes on",
            "left = [one for one in left if not one.lost_with(made)]",
            "left = list(left)",
        ),
        (
            "the luckiest on few seeds is chosen",
            "left = [one for one in held if one.looks == most]",
            "left = held",
        ),
    ),
    *_in(
        "tuning/second_looks.py",
        "tests/tuning/test_second_looks.py",
        (
            "one trial is looked at again",
            "(2 if is_reference else 3)",
            "(1 if is_reference else 1)",
        ),
        (
            "the constant lr is chosen on two seeds",
            "planned = _OF_REFERENCE if is_reference else _STAGES",
            "planned = _STAGES",
        ),
        (
            "an older study's second looks are lost",
            '[facts.get("value")] * count',
            "[0.0] * count",
        ),
    ),
    *_in(
        "tuning/study.py",
        "tests/tuning/test_second_looks.py",
        (
            "a stage forgets the one before",
            "before = self._stored.again.get(str(number))",
            "before = None",
        ),
    ),
    *_in(
        "tuning/study.py",
        "tests/tuning/test_shares.py",
        ("the best constant lr is one of far ones", "space.lr_high, FINE)", "space.lr_high)"),
    ),
    *_in(
        "tuning/storages/stored.py",
        "tests/tuning/test_second_looks.py",
        ("a second look is kept alone", "{**self.again, str(number)", "{str(number)"),
    ),
    *_in(
        "tuning/search.py",
        "tests/tuning/test_second_looks.py",
        (
            "second looks are made again",
            "seeds[one.looks : count]",
            "seeds[:count]",
        ),
        (
            "a second look knows no deadline",
            "over = time.monotonic() >= deadline",
            "over = False",
        ),
        ("second looks are no progress", "runs += sum(study.second_looks", "runs += sum(0"),
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
        "tuning/storages/stored.py",
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
        "tuning/shares.py",
        "tests/tuning/test_shares.py",
        (
            "the best families are dropped",
            "best_first[: _kept(len(left))]",
            "best_first[-_kept(len(left)) :]",
        ),
        ("a family is dropped at a time", "max(2, -(-families // 2))", "max(2, families - 1)"),
        ("what the constant gives back is lost", "self.budget + spare -", "self.budget -"),
        (
            "the constant stops before its lr is bracketed",
            "lacks = told.lacks or 0",
            "lacks = 0",
        ),
        (
            "a family is as good as its first trial",
            "min(self.values[k][: found[k]])",
            "self.values[k][0]",
        ),
    ),
    *_in(
        "tuning/samplers.py",
        "tests/tuning/test_shares.py",
        ("an lr in training is asked again", "| set(asked))", "| set())"),
        ("a best lr at the edge is taken for settled", "(below is None and best > low)", "False"),
    ),
    *_in(
        "tuning/space.py",
        "tests/tuning/test_shares.py",
        ("start-ups leave the range", "min(high, at * self.lr_spread)", "at * self.lr_spread"),
    ),
    *_in(
        "training/records/history.py",
        "tests/training/test_best_epoch.py",
        ("the weights before training are a best epoch", "for v in run[1:] if", "for v in run if"),
    ),
    *_in(
        "training/trainers/optimizer_modes.py",
        "tests/training/trainers/test_optimizer_modes.py",
        ("a run is evaluated in train mode", "            one.eval()", "            pass"),
    ),
    *_in(
        "tuning/trials.py",
        "tests/tuning/test_search.py",
        ("a diverged trial may be the best", "if not trial.diverged]", "]"),
        (
            "the worst trial is the best where more is better",
            'return 1 if self.space.direction == "minimize" else -1',
            "return 1",
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
        "tuning/search.py",
        "tests/tuning/test_shares.py",
        ("a small round is left over", "< round_size:", "< 0:"),
        ("a round is smaller than it is worth", "max(least, s.wanted(share))", "s.wanted(share)"),
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
    ),
    *_in(
        "results/tables.py",
        "tests/results/test_folder.py",
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
        "commands/resume.py",
        "tests/test_run.py",
        (
            "a resumed run takes other options",
            "if made != got:",
            "if False:",
        ),
    ),
    *_in(
        "range_tests/rules/longer_training.py",
        "tests/range_tests/rules/test_longer_training.py",
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
        ("the exponent has no bounds", "prone, 0.0, _MOST))", "prone, -9.0, 9.0))"),
        ("what is prone to memorise is not", "* fitted + prone", "* fitted"),
        (
            "few passes memorise",
            "math.log(epochs / _OFTEN), 0.0)",
            "math.log(epochs / _OFTEN), 1.0)",
        ),
        (
            "over-fitting counts the other way",
            "losses[best] - trained[best]",
            "trained[best] - losses[best]",
        ),
        (
            "what bounds the lr of training counts as over-fitting",
            "np.clip(higher, 0.0, 1.0)",
            "1.0",
        ),
        ("over-fitting has no bounds", "np.clip(lower, 0.0, 1.0)", "lower"),
        (
            "what probes show counts alike at every length",
            "+ _DRAWN * _EXPONENT) / (length + _DRAWN)",
            ") / max(length, 1e-9)",
        ),
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
        ("the interval does not grow upwards", "_USUAL[1] + _LOWERED[1] * lowered", "_USUAL[1]"),
        (
            "the interval does not grow downwards",
            "_KEPT * max(length - lowered, 0.0)",
            "0.0",
        ),
        (
            "the interval does not grow downwards where the lr is lowered",
            "+ _LOWERED[0] * lowered",
            "",
        ),
        ("the band knows nothing of the probes", "_BELOW[1] * as_good", "0 * as_good"),
        ("the band does not grow with the training", "+ _BELOW[2] * (length - lowered)", ""),
        ("the band's upper end does not grow", "_ABOVE[0] + _ABOVE[1] * lowered", "_ABOVE[0]"),
        ("a late lowest loss is a turn", "probe.lowest_at <= _EARLY * probe.updates", "True"),
        ("any rise is a turn", "probe.loss - probe.lowest >= _RISEN * fall", "True"),
    ),
    *_in(
        "comparison/policy.py",
        "tests/comparison/test_policy.py tests/comparison/test_verdict.py",
        ("who is kept is dropped", "if name in kept or name in others", "if name in others"),
        (
            "one that diverged is kept",
            "in self.kept and name not in results.lost]",
            "in self.kept]",
        ),
        (
            "the worst go on",
            "key=lambda name: (name in self.lost, means",
            "key=lambda name: (-means",
        ),
        (
            "the seeds of the choice count",
            "return seeds_of(chosen or looks)",
            "return seeds_of(looks)",
        ),
        ("nothing ends early", "or (looks and self.decided(looks, results))", ""),
        ("a look shows whatever it likes", "if value < look.alpha", "if value < 0.2"),
        (
            "a comparison is continued again and again",
            "if looks and looks[-1].continues:",
            "if False:",
        ),
        ("seeds are used twice", "seeds[sum(len(look.seeds) for look in looks) :]", "seeds"),
        ("lrs that are not known are alike", "== lrs[first][s] != 0", "== lrs[first][s]"),
        ("nobody goes along", "and name in self.may_part)", "and False)"),
        (
            "one that has parted is not compared",
            "for name in self.trained if",
            "for name in self.candidates if",
        ),
        ("one that has parted is not found out", "and all(own[s]", "and any(own[s]"),
    ),
    *_in(
        "comparison/verdict.py",
        "tests/comparison/test_verdict.py",
        ("the best is recommended, however complex", ", key=simplicity)", ", key=lambda _: 0)"),
        (
            "a constant is not simpler",
            "return name != CONSTANT, searched",
            "return False, searched",
        ),
        ("better is worse", 'sign = 1 if comparison.direction == "minimize" else -1', "sign = -1"),
        (
            "the start is near by its mean alone",
            "upper = distance.high if",
            "upper = distance.mean if",
        ),
    ),
    *_in(
        "range_tests/rules/rule.py",
        "tests/range_tests/rules/test_rule.py",
        (
            "a run that learnt nothing is no bound of a peak",
            "for probe in probes if not probe.loss < top]",
            "for probe in probes if not np.isfinite(probe.loss)]",
        ),
        (
            "the exponent is forgotten",
            "        exponent=exponent,\n",
            "",
        ),
    ),
    *_in(
        "schedules/transfer.py",
        "tests/range_tests/rules/test_rule.py",
        ("a peak knows no distance", "* predicted)) ** min(exponent, 1.0)", "* predicted)) ** 0"),
        (
            "a peak always keeps the sum of the lrs",
            "* predicted)) ** min(exponent, 1.0)",
            "* predicted))",
        ),
    ),
    *_in(
        "range_tests/rules/suggestion.py",
        "tests/range_tests/rules/test_rule.py",
        ("a schedule knows no exponent", "self.exponent or 0.0", "0.0"),
        (
            "a peak may be where no lr was tried",
            "lr for lr in (self.broke_at, self.unknown_above)",
            "lr for lr in (self.broke_at,)",
        ),
    ),
    *_in(
        "range_tests/rules/probes.py",
        "tests/range_tests/rules/test_rule.py",
        (
            "probes cut short show what breaks a training",
            "if cut_short or 2 * open_above",
            "if 2 * open_above",
        ),
        (
            "the best at the highest lr tells nothing of its end",
            "if cut_short or 2 * open_above > len(probes) else None",
            "if cut_short else None",
        ),
    ),
    *_in(
        "range_tests/rules/probes.py",
        "tests/range_tests/rules/test_longer_training.py",
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
            "probes of short trainings are shorter than a test has room for",
            "_SHORTEST, _LONGEST, _SHARE = 120",
            "_SHORTEST, _LONGEST, _SHARE = 100",
        ),
        (
            "one probe is taken for an answer",
            "if 0 < probes < FEWEST_PROBES:",
            "if 1 < probes < 1:",
        ),
    ),
    *_in(
        "range_tests/lengths.py",
        "tests/range_tests/test_lengths.py",
        (
            "a cost that a message names is refused by its rounding",
            "int(round(cost * budget / seeds, 9))",
            "int(cost * budget / seeds)",
        ),
    ),
    *_in(
        "range_tests/chance/exchange.py",
        "tests/range_tests/chance/test_exchange.py",
        ("targets keep their places", "chain.roll(1)", "chain"),
        ("inputs that are all alike are believed", "return Unchecked(SAME_INPUTS)", "pass"),
    ),
    *_in(
        "range_tests/chance/exchange.py",
        "tests/range_tests/chance/test_exchange.py",
        ("a rare class is not exchanged", "_FEWEST_UNLIKE = 8", "_FEWEST_UNLIKE = 40"),
        ("one row of another class is enough", "_FEWEST_UNLIKE = 8", "_FEWEST_UNLIKE = 1"),
        ("tokens are taken for rows", "if samples is None or", "if True or"),
    ),
    *_in(
        "range_tests/chance/inputs.py",
        "tests/range_tests/chance/test_exchange.py",
        ("one sample is taken for rows alike", "0 if one else count", "count"),
    ),
    *_in(
        "range_tests/chance/permutation_test.py",
        "tests/range_tests/chance/test_exchange.py",
        ("small weights make a loss unpaired", "nothing.any() and not pairs()", "True"),
    ),
    *_in(
        "range_tests/rules/probes.py",
        "tests/range_tests/test_advice.py",
        ("trained weights are told to take more steps", "known and not start", "False and start"),
        ("a rounding error is a fall", "_ROUNDING * gap", "0"),
    ),
    *_in(
        "range_tests/curve.py",
        "tests/range_tests/test_advice.py::"
        "test_no_row_was_seen_twice_before_the_first_epoch_has_ended",
        (
            "rows that were seen once are over-fitted",
            "turned_up_at > (self.updates_per_epoch or 0)",
            "True",
        ),
        ("rows drawn anew are over-fitted", "if not self.repeats:", "if False:"),
    ),
    *_in(
        "tasks/fields/lr_groups.py",
        "tests/tasks/fields/test_lr_groups.py",
        ("an lr that a scheduler lowered is not told", "if alike else 1.0", "if False else 1.0"),
    ),
    *_in(
        "range_tests/rules/without_bottom.py",
        "tests/range_tests/rules/test_losses_without_bottom.py",
        ("one step is enough to have no bottom", "_STEPS = 2", "_STEPS = 1"),
        ("a linear fall has a bottom", "_POWER = 0.95", "_POWER = 1.1"),
    ),
    *_in(
        "range_tests/several_optimizers.py",
        "tests/range_tests/rules/test_losses_without_bottom.py",
        ("optimizers that lower a loss raise it", "losses - unmoved", "unmoved - losses"),
        ("a rise of the loss is none", "_LITTLE, _GROWN = 2e-3", "_LITTLE, _GROWN = 2e3"),
        ("a training that rose too far is not looked at", "[np.isfinite(above)]", ""),
    ),
    *_in(
        "range_tests/chance/pairing.py",
        "tests/range_tests/chance/test_pairing.py",
        ("rounding makes pairs", "_ROUNDINGS = 100", "_ROUNDINGS = 0"),
        (
            "no loss pairs rows with targets",
            "return any(change > limit",
            "return all(change > limit",
        ),
    ),
    *_in(
        "tasks/data/targets.py",
        "tests/tasks/data/test_targets.py",
        ("the batch itself gets the other target", "= copy.copy(cast(object, part))", "= part"),
    ),
    *_in(
        "schedules/as_function.py",
        "tests/schedules/test_in_frameworks.py",
        ("a decay does not wait for the warm-up", 'f"t -= {w}", ', ""),
        ("a restarted period does not grow", "period * {T_mult}", "period * 1"),
        ("a triangle begins at its peak", 'up = f"1 - abs(', 'up = f"abs('),
    ),
    *_in(
        "schedules/in_frameworks.py",
        "tests/schedules/test_in_frameworks.py",
        ("a cosine of any length is theirs", 'and params["T_max"] == updates', ""),
        (
            "a scheduler of batches is stepped by epoch",
            '"epoch" if schedule.stepped_per == "epoch" else "step"',
            '"epoch"',
        ),
    ),
    *_in(
        "range_tests/rules/prior.py",
        "tests/range_tests/rules/test_prior.py",
        ("a prior is half as wide", "(2 * _MIDDLE_90)", "(4 * _MIDDLE_90)"),
        ("Optuna is asked evenly", "self.high, log=True", "self.high, log=False"),
    ),
    *_in(
        "tasks/loops/training.py",
        "tests/tasks/loops/test_loops.py tests/training/trainers/test_driven.py",
        (
            "lrs are set one update late",
            "self.lrs[len(self.losses)]",
            "self.lrs[len(self.losses) - 1]",
        ),
        (
            "a second log of an update is believed",
            "        self._stepped = False\n        self.losses",
            "        self.losses",
        ),
        (
            "a refusal is told nobody",
            "self.fault = InvalidArgument(message)",
            "self.broken = True",
        ),
    ),
    *_in(
        "tasks/loops/driving.py",
        "tests/training/trainers/test_driven.py",
        (
            "the loop draws from the caller's random states",
            "with self._random.active(), self._own.active():",
            "with self._own.active():",
        ),
        ("gradients stay off outside", "outside.restore()", "pass"),
        ("generators of the owner's go on", "self._put(outside)", "pass"),
    ),
    *_in(
        "tasks/loops/measuring.py",
        "tests/training/trainers/test_driven.py",
        ("train flags stay where an evaluation left them", "module.training = training", "pass"),
    ),
    *_in(
        "training/trainers/driven.py",
        "tests/training/trainers/test_driven.py",
        (
            "whatever a loop raises is a divergence",
            "        except LRFinderError:\n            return False",
            "        except LRFinderError:\n            return True",
        ),
    ),
    *_in(
        "training/batched/replay/pure.py",
        "tests/training/batched/test_pure.py",
        ("code that sets an attribute is pure", '{"STORE_ATTR", ', "{"),
        ("what operators call is not read", "self._called_by_syntax(base)", "pass"),
        ("what a closure holds is not read", "self._value(cell.cell_contents)", "pass"),
        ("the code of a nested function is not read", "self._code(one.argval, names)", "pass"),
        ("a tensor that changed is what it was", "tensor._version == version", "True"),
        ("a hook does not matter", "or any(own.get(hooks) for hooks in _HOOKS)", ""),
    ),
    *_in(
        "training/batched/replay/simpler.py",
        "tests/training/batched/test_recording.py",
        (
            "a view is taken for nothing where it is for three runs",
            "_forms(node) == _forms(other)",
            "_forms(node)[:1] == _forms(other)[:1]",
        ),
        (
            "what is changed in place is taken for what it was",
            "if changed.isdisjoint(map(_owner, (node, *node.all_input_nodes))):",
            "if True:",
        ),
    ),
    *_in(
        "training/batched/replay/recording.py",
        "tests/training/batched/test_recording.py",
        ("a size is taken for a constant", "own if own == other else self", "own if own else self"),
        ("any number is taken for a multiple", "own * more != other * few", "False"),
    ),
    *_in(
        "training/batched/replay/agreement.py",
        "tests/training/batched/test_replay.py",
        (
            "operations that differ serve",
            "return all(map(_close, found, expected))",
            "return True",
        ),
    ),
    *_in(
        "training/batched/replay/steps.py",
        "tests/training/batched/test_not_replayed.py",
        ("another random state does not matter", "drawn.at(Stream.now(device))", "True"),
    ),
    *_in(
        "training/batched/replay/steps.py",
        "tests/training/batched/test_replay.py",
        ("what code reads may change", "or not self._watch.unchanged()", ""),
        (
            "batches of another order are taken for the same",
            "(key, _form(value, first))",
            "_form(value, first)",
        ),
        ("parameters lie without a gap", "gap = 2 + sum(", "gap = 1 + sum("),
    ),
]
