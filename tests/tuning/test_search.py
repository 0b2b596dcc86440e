"""Studies: N complete finite trials per family, whatever diverges, raises or is interrupted."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from small_tasks import absolute_error, linear_task, no_global_draw, plain_sgd
from threadpoolctl import threadpool_info, threadpool_limits
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR

from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES, Family
from lrfinder.training.executors.in_process import AloneCrew
from lrfinder.training.executors.job import Setup
from lrfinder.training.fit import fit
from lrfinder.training.records.history import Plan
from lrfinder.tuning.samplers import sampler_for
from lrfinder.tuning.search import search
from lrfinder.tuning.space import Space
from lrfinder.tuning.trials import FamilyResult

NAMES = list(FAMILIES)
EPOCHS, PER_EPOCH, UPDATES = 6, 4, 24
N = 6


def space(name: str = "step", **fields) -> Space:
    given = {
        "family": FAMILIES.get(name),
        "lr_low": 0.005,
        "lr_high": 0.5,
        "lr_default": 0.05,
        "epochs": EPOCHS,
        "updates_per_epoch": PER_EPOCH,
    }
    return Space(**{**given, **fields})


def task(**fields):
    return linear_task(**{"epochs": EPOCHS, "optimizer": plain_sgd, **fields})


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def trials_of(storage, name: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=f"lrfinder-{name}", storage=storage).get_trials()


def params_of(trials) -> list[tuple]:
    return [tuple(sorted(trial.params.items())) for trial in trials]


def complete(trials) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_every_family_ends_with_its_trials_complete_and_finite_and_its_defaults_first(name, per):
    storage, one = optuna.storages.InMemoryStorage(), space(name, per=per)
    [found] = search(task(), [one], trials=N, seeds=[0], storage=storage)
    trials = trials_of(storage, name)
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * N
    assert np.isfinite([trial.value for trial in trials]).all()
    for params, trial in zip(one.first_trials(), trials, strict=False):
        assert trial.params == {**trial.params, **params}
    assert len(set(params_of(trials))) == N
    assert [t.number for t in found.trials] == list(range(N))
    assert (found.study_name, found.failed, found.exhausted) == (f"lrfinder-{name}", 0, False)
    assert all(trial.updates == UPDATES for trial in found.trials if not trial.diverged)


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_trial_is_the_schedule_that_was_trained(name):
    trained = {}
    [found] = search(
        task(),
        [space(name)],
        trials=4,
        seeds=[3, 4],
        trial_done=lambda family, number, history: trained.update({number: history}),
    )
    for trial in found.trials:
        plans = trained[trial.number].plans
        assert plans == tuple(Plan(trial.lr, trial.schedule, seed) for seed in (3, 4))
        again = fit(task(), plans)
        value = np.mean([outcome.value for outcome in again.outcomes()])
        assert trial.value == pytest.approx(value, rel=1e-5)


def test_every_study_has_a_single_choice_called_schedule(url):
    search(task(), [space("step"), space("cosine")], trials=2, seeds=[0], storage=url, name="x")
    assert set(optuna.get_all_study_names(url)) == {"x-step", "x-cosine"}
    for name in ("step", "cosine"):
        study = optuna.load_study(study_name=f"x-{name}", storage=url)
        assert study.metric_names == ["valid_loss"]
        for trial in study.get_trials():
            assert trial.distributions["schedule"].choices == (name,)
            assert trial.distributions["lr"].log


def test_stored_values_have_six_significant_digits():
    storage = optuna.storages.InMemoryStorage()
    search(task(metrics={"e": absolute_error}), [space()], trials=4, seeds=[0, 1], storage=storage)
    for trial in trials_of(storage, "step"):
        stored = [trial.value, *trial.intermediate_values.values()]
        stored += [v for v in trial.user_attrs.values() if isinstance(v, float)]
        assert stored == [float(f"{value:.6g}") for value in stored]
        assert list(trial.intermediate_values) == list(range(EPOCHS + 1))
        assert trial.user_attrs["seeds"] == [0, 1]
        assert {"valid_loss before training", "final valid_loss", "final e"} <= set(
            trial.user_attrs
        )


def test_a_trial_is_the_mean_over_its_seeds():
    storage = optuna.storages.InMemoryStorage()
    [both] = search(task(), [space()], trials=1, seeds=[0, 1], storage=storage)
    alone = [search(task(), [space()], trials=1, seeds=[seed])[0].trials[0] for seed in (0, 1)]
    assert both.trials[0].value == pytest.approx(np.mean([t.value for t in alone]), rel=1e-5)
    assert both.trials[0].updates == 2 * UPDATES


def test_diverging_trials_are_complete_and_store_what_was_there_before_training():
    storage = optuna.storages.InMemoryStorage()
    wild = space(lr_low=1e3, lr_high=1e6, lr_default=1e4)
    [found] = search(task(), [wild], trials=N, seeds=[0], storage=storage)
    start = fit(task(), [Plan(1e-9, found.trials[0].schedule, 0)], updates=1).measures["loss"][0, 0]
    trials = trials_of(storage, "step")
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * N
    for trial in trials:
        assert trial.user_attrs["diverged"] is True
        assert (
            trial.value == trial.user_attrs["valid_loss before training"] == float(f"{start:.6g}")
        )
        assert trial.user_attrs["final valid_loss"] is None
    assert found.best is None


def test_the_best_trial_is_the_earliest_of_the_best_that_did_not_diverge():
    [found] = search(task(), [space("constant")], trials=3, seeds=[0])
    a, b, c = found.trials
    ranked = replace(
        found,
        trials=(replace(a, value=0.1, diverged=True), replace(b, value=2.0), replace(c, value=2.0)),
    )
    assert ranked.best == ranked.trials[1]
    upward = replace(ranked, space=replace(found.space, direction="maximize"))
    higher = replace(upward, trials=(*ranked.trials[:2], replace(c, value=3.0)))
    assert higher.best == higher.trials[2]


class Interrupt:
    """A progress callback that raises KeyboardInterrupt after so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, made: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def interrupted_until_done(storage, spaces, seed: int, ask_size: int, trials: int = N):
    """Run a search that is interrupted at random moments, until it ends; and how often it was."""
    draw = np.random.default_rng(seed)
    for interrupts in range(60):
        try:
            found = search(
                task(),
                spaces,
                trials=trials,
                seeds=[0, 1],
                storage=storage,
                ask_size=ask_size,
                progress=Interrupt(int(draw.integers(0, 40))),
            )
        except KeyboardInterrupt:
            continue
        return found, interrupts
    raise AssertionError("the search never ended")


INTERRUPTED = [(["step", "plateau"], 1), (["exponential_steps"], 3), (["cosine", "wsd"], 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("names", "ask_size"), INTERRUPTED)
def test_interrupts_lose_no_trial_and_repeat_none(url, names, ask_size):
    found, interrupts = interrupted_until_done(url, [space(n) for n in names], ask_size, ask_size)
    assert interrupts > 0
    for name, result in zip(names, found, strict=True):
        trials = trials_of(url, name)
        done = params_of(complete(trials))
        assert len(done) == len(set(done)) == len(result.trials) == N
        assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
        failed = [t for t in trials if t.state == TrialState.FAIL]
        assert result.failed == len(failed)
        assert set(params_of(failed)) <= set(done)


def test_an_interrupt_tells_the_trial_in_flight_as_failed(url):
    with pytest.raises(KeyboardInterrupt):
        search(
            task(), [space()], trials=N, seeds=[0], storage=url, progress=Interrupt(UPDATES // 3)
        )
    states = [trial.state for trial in trials_of(url, "step")]
    assert states.count(TrialState.FAIL) == 1
    assert TrialState.RUNNING not in states


def test_a_sampler_of_a_study_that_goes_on_draws_anew(url):
    seeds = []

    def remembering(space, startup, seed):
        seeds.append(seed)
        return sampler_for(space, startup, seed)

    for trials in (2, 4, 6):
        search(task(), [space()], trials=trials, seeds=[0], storage=url, sampler=remembering)
    assert len(set(seeds)) == 3


def test_a_study_that_goes_on_draws_other_trials_than_the_first_ones(url):
    """The sampler's seed follows the number of trials that exist."""
    for trials in (2, 4):  # after the default all are drawn at random
        search(task(), [space()], trials=trials, seeds=[0], storage=url)
    drawn = params_of(complete(trials_of(url, "step")))
    assert len(set(drawn)) == len(drawn) == 4


KILLED = """
import os, sys
from lrfinder.tuning.storages.stored import StoredStudy
from test_search import search, space, task

url, where, calls = sys.argv[1], sys.argv[2], [None] * int(sys.argv[3])
write = StoredStudy.add

def die(*_):
    calls.pop() if calls else os._exit(9)

def written(*args, **more):
    trial = write(*args, **more)
    die()
    return trial

if where == "writing":
    StoredStudy.add = written
search(
    task(),
    [space("step"), space("wsd")],
    trials=6,
    seeds=[0, 1],
    storage=url,
    ask_size=3,
    together=6,
    progress=die if where == "training" else None,
    trial_done=die if where == "before writing" else None,
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["training", "before writing", "writing"])
def test_processes_that_are_killed_lose_no_trial_and_repeat_none(url, where):
    lives = {"training": 40, "before writing": 3, "writing": 2}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed, in_training = 0, []
    for life in range(12):
        words = [sys.executable, "-c", KILLED, url, where, str(lives[where] + 2 * life)]
        if subprocess.run(words, env=env, capture_output=True).returncode == 0:
            break
        killed += 1
        for name in ("step", "wsd"):
            attrs = optuna.load_study(study_name=f"lrfinder-{name}", storage=url).user_attrs
            asked = (attrs.get("in training") or {"trials": []})["trials"]
            in_training += [(name, trial["params"]) for trial in asked]
    assert killed > 1
    for name in ("step", "wsd"):
        done = complete(trials_of(url, name))
        assert len(done) == len(set(params_of(done))) == N
        asked = [params for of, params in in_training if of == name]
        assert all(any(t.params == {**t.params, **params} for t in done) for params in asked)
        attrs = optuna.load_study(study_name=f"lrfinder-{name}", storage=url).user_attrs
        assert attrs["in training"] is None


def test_what_is_in_training_is_written_once_a_round_and_an_ended_trial_once(url, monkeypatch):
    written = []
    for name in ("set_user_attr", "add_trial"):
        original = getattr(optuna.Study, name)

        def counted(study, *args, _name=name, _original=original):
            if not isinstance(study._storage, optuna.storages.InMemoryStorage):
                written.append(_name)
            return _original(study, *args)

        monkeypatch.setattr(optuna.Study, name, counted)
    search(task(), [space("step")], trials=8, seeds=[0], storage=url, ask_size=4)
    assert written.count("add_trial") == 8
    assert written.count("set_user_attr") == 1 + 2 + 1  # conditions, two rounds, the end


def test_a_task_that_raises_fails_its_trials_which_are_asked_again(url):
    def broken(output, target):
        raise ValueError("broken")

    with pytest.raises(TaskFailed, match=r"ValueError: broken \(test_search.py") as error:
        search(task(criterion=broken), [space()], trials=3, seeds=[0], storage=url, ask_size=2)
    assert "\n" not in str(error.value)
    states = [trial.state for trial in trials_of(url, "step")]
    assert states[:2] == [TrialState.FAIL] * 2
    [found] = search(task(), [space()], trials=3, seeds=[0], storage=url)
    trials = trials_of(url, "step")
    assert len(found.trials) == 3
    assert set(params_of(trials[:2])) <= set(params_of(complete(trials)))


def test_trials_that_somebody_enqueued_are_trained_first(url):
    wanted = [{"lr": 0.02, "step_size": 3, "gamma": 0.5}, {"lr": 0.2, "step_size": 2, "gamma": 0.3}]
    search(task(), [space()], trials=1, seeds=[0], storage=url)
    study = optuna.load_study(study_name="lrfinder-step", storage=url)
    for params in wanted:
        study.enqueue_trial(params)
    [found] = search(task(), [space()], trials=4, seeds=[0], storage=url)
    tried = [{"lr": trial.lr, **trial.params} for trial in found.trials]
    assert tried[1:3] == wanted
    assert (len(found.trials), found.failed) == (4, 0)


@pytest.mark.parametrize("name", ["step", "exponential_steps", "constant"])
def test_more_trials_go_on_without_repeating_parameters(url, name):
    [first] = search(task(), [space(name)], trials=4, seeds=[0], storage=url)
    [more] = search(task(), [space(name)], trials=9, seeds=[0], storage=url)
    assert more.trials[:4] == first.trials
    assert len(set(params_of(trials_of(url, name)))) == len(more.trials) == 9
    [same] = search(task(), [space(name)], trials=5, seeds=[0], storage=url)
    assert same.trials == more.trials


def steps_family(name: str = "drops", defaults: bool = False) -> Family:
    """A family of twelve members."""

    def build(optimizer, params):
        every, factor = params["every"], params["factor"]
        return LambdaLR(optimizer, lambda t: factor ** (t // every))

    return Family(
        name=name,
        build=build,
        space=lambda trial, budget: {
            "every": trial.suggest_int("every", 1, 4),
            "factor": trial.suggest_categorical("factor", [0.1, 0.5, 0.8]),
        },
        defaults=(lambda budget: [{"every": 2, "factor": 0.5}]) if defaults else lambda budget: [],
    )


FIXED = {"lr_low": 0.05, "lr_high": 0.05, "lr_default": 0.05}
POINTS = set(product([1, 2, 3, 4], [0.1, 0.5, 0.8]))


def points(result: FamilyResult) -> list[tuple]:
    return [(trial.params["every"], trial.params["factor"]) for trial in result.trials]


@pytest.mark.parametrize("defaults", [True, False])
@pytest.mark.parametrize("trials", [12, 30])
def test_a_discrete_space_is_enumerated_without_repeats(defaults, trials):
    one = space(family=steps_family(defaults=defaults), **FIXED)
    [found] = search(task(), [one], trials=trials, seeds=[0])
    assert len(found.trials) == 12
    assert set(points(found)) == POINTS
    assert found.exhausted
    if defaults:
        assert points(found)[0] == (2, 0.5)


@pytest.mark.parametrize("first", [2, 7, 11])
def test_a_discrete_space_is_exhausted_also_where_a_search_goes_on(first):
    one, storage = space(family=steps_family(), **FIXED), optuna.storages.InMemoryStorage()
    [some] = search(task(), [one], trials=first, seeds=[0], storage=storage)
    assert (len(some.trials), some.exhausted) == (first, False)
    [every] = search(task(), [one], trials=40, seeds=[0], storage=storage)
    assert set(points(every)) == POINTS
    assert every.exhausted


def test_a_discrete_space_survives_interrupts():
    one, storage = space(family=steps_family(), **FIXED), optuna.storages.InMemoryStorage()
    [found], interrupts = interrupted_until_done(storage, [one], seed=1, ask_size=2, trials=12)
    assert interrupts > 0
    assert len(found.trials) == 12
    assert set(points(found)) == POINTS


def test_a_discrete_space_that_a_deadline_cuts_short_is_not_exhausted():
    one = space(family=steps_family(), **FIXED)
    [found] = search(task(), [one], trials=12, seeds=[0], deadline=time.monotonic() - 1)
    assert not found.exhausted


def test_a_discrete_space_of_neighbouring_large_numbers_is_enumerated():
    def build(optimizer, params):
        return ExponentialLR(optimizer, 1 - 1 / params["horizon"])

    near = Family(
        "near",
        build,
        lambda trial, budget: {"horizon": trial.suggest_int("horizon", 10**6, 10**6 + 2)},
    )
    [found] = search(task(), [space(family=near, **FIXED)], trials=5, seeds=[0])
    assert [trial.params["horizon"] for trial in found.trials] == [10**6, 10**6 + 1, 10**6 + 2]


def test_a_constant_lr_that_is_fixed_has_one_trial():
    [found] = search(task(), [space("constant", **FIXED)], trials=5, seeds=[0])
    assert len(found.trials) == 1
    assert found.exhausted
    assert found.trials[0].lr == 0.05


def test_a_changed_direction_is_refused(url):
    search(task(), [space()], trials=1, seeds=[0], storage=url)
    with pytest.raises(InvalidArgument, match="made with direction minimize, but got maximize"):
        search(task(), [space(direction="maximize")], trials=2, seeds=[0], storage=url)


@pytest.mark.parametrize("name", ["plateau", "step"])
def test_a_measure_can_be_maximized(name):
    gain = {"gain": lambda output, target: -absolute_error(output, target)}
    storage = optuna.storages.InMemoryStorage()
    [found] = search(
        task(metrics=gain),
        [space(name, direction="maximize")],
        trials=5,
        seeds=[0],
        storage=storage,
        measure="gain",
    )
    study = optuna.load_study(study_name=f"lrfinder-{name}", storage=storage)
    assert study.direction.name == "MAXIMIZE"
    assert study.metric_names == ["gain"]
    assert found.best is not None
    assert found.best.value == max(trial.value for trial in found.trials) == study.best_value
    if name == "plateau":
        assert all(trial.schedule.params["mode"] == "max" for trial in found.trials)


def test_a_family_of_the_tasks_own_is_searched_like_any_other():
    def build(optimizer, params):
        return ExponentialLR(optimizer, params["gamma"])

    mine = Family(
        "mine", build, lambda trial, budget: {"gamma": trial.suggest_float("gamma", 0.5, 0.99)}
    )
    own = task(schedules={"mine": mine})
    [found] = search(own, [space(family=own.schedules["mine"])], trials=5, seeds=[0])
    assert len(found.trials) == 5
    assert all(0.5 <= trial.params["gamma"] <= 0.99 for trial in found.trials)


def test_samplers_draw_with_one_blas_thread_and_give_back_the_others():
    drawn: list[set[int]] = []

    def blas_threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    def drawing(trial, budget):
        drawn.append(blas_threads())
        return {"gamma": trial.suggest_float("gamma", 0.5, 0.99)}

    watched = Family("watched", lambda opt, params: ExponentialLR(opt, params["gamma"]), drawing)
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        search(task(), [space(family=watched)], trials=5, seeds=[0])
        assert {1} in drawn
        assert blas_threads() == before


WARM = {
    ("step", "epoch"): 2,
    ("step", "batch"): 8,
    ("plateau", "epoch"): 2,
    ("plateau", "batch"): 2,
}


@pytest.mark.parametrize(("name", "per"), WARM)
def test_a_warm_up_rises_to_the_lr_at_the_expense_of_the_decay(name, per):
    one = space(name, per=per, warmup_epochs=2)
    histories = []
    [found] = search(
        task(),
        [one],
        trials=3,
        seeds=[0],
        trial_done=lambda family, number, history: histories.append(history),
    )
    length = WARM[name, per]
    unit = 1 if per == "epoch" or name == "plateau" else PER_EPOCH
    assert {trial.schedule.warmup for trial in found.trials} == {length}
    assert one.budget.steps == EPOCHS * unit - length
    for trial, history in zip(found.trials, histories, strict=True):
        lrs = history.lr[0, :: PER_EPOCH // unit, 0]
        rise = trial.lr * np.arange(1, length + 1) / (length + 1)
        np.testing.assert_allclose(lrs[:length], rise)
        if length:
            assert lrs[length] == pytest.approx(trial.lr)


@pytest.mark.parametrize("per", ["epoch", "batch"])
def test_a_short_warm_up_is_never_left_out_silently(per):
    assert space("step", per=per, warmup_epochs=0.1).warmup >= 1


def test_a_schedule_that_is_stepped_per_batch_changes_within_an_epoch():
    histories = []
    search(
        task(),
        [space("cosine", per="batch")],
        trials=1,
        seeds=[0],
        trial_done=lambda family, number, history: histories.append(history),
    )
    first_epoch = histories[0].lr[0, :PER_EPOCH, 0]
    assert (np.diff(first_epoch) < 0).all()
    assert histories[0].lr[0, -1, 0] < 0.01 * histories[0].lr[0, 0, 0]


@pytest.mark.parametrize("name", ["one_cycle", "triangular"])
def test_a_family_that_rises_by_itself_refuses_a_warm_up(name):
    with pytest.raises(InvalidArgument, match="takes no warm-up, but got warmup 2"):
        space(name, warmup_epochs=2)


def test_a_study_of_other_conditions_is_never_continued(url):
    search(task(), [space()], trials=1, seeds=[0], storage=url)
    for other, says in (({"seeds": [1]}, "seeds"), ({"measure": "loss"}, None)):
        arguments = {"trials": 1, "seeds": [0], "storage": url} | other
        if says is None:
            search(task(), [space()], **arguments)
        else:
            with pytest.raises(InvalidArgument, match=f"was made with {says}"):
                search(task(), [space()], **arguments)


def test_after_the_deadline_every_family_gets_one_trial_and_no_more():
    spaces = [space("step"), space("cosine")]
    one = search(task(), spaces, trials=3, seeds=[0], deadline=time.monotonic() - 1)
    assert [len(result.trials) for result in one] == [1, 1]
    some = search(task(), spaces, trials=10_000, seeds=[0], deadline=time.monotonic() + 0.3)
    counts = [len(result.trials) for result in some]
    assert 0 < counts[0] < 10_000
    assert counts[0] - counts[1] in (0, 1)


def test_the_same_seed_asks_the_same_and_moves_no_random_state():
    with no_global_draw():
        one, two = (search(task(), [space()], trials=N, seeds=[0], seed=4)[0] for _ in range(2))
    other = search(task(), [space()], trials=N, seeds=[0], seed=5)[0]
    assert [t.params for t in one.trials] == [t.params for t in two.trials]
    assert [t.params for t in one.trials] != [t.params for t in other.trials]


@pytest.mark.parametrize("ask_size", [1, 4])
def test_progress_adds_up_and_every_trial_is_handed_out_once(ask_size):
    made, handed = [], []
    search(
        task(),
        [space("step"), space("wsd")],
        trials=5,
        seeds=[0, 1],
        ask_size=ask_size,
        progress=made.append,
        trial_done=lambda family, number, history: handed.append((family, number)),
    )
    assert sum(made) == 2 * 5 * 2 * UPDATES
    assert sorted(handed) == [(name, number) for name in ("step", "wsd") for number in range(5)]


@pytest.mark.parametrize("together", [2, 3, 100])
def test_trials_drawn_before_any_result_is_used_do_not_depend_on_what_is_trained_with_them(
    together,
):
    spaces = [space(name) for name in ("step", "wsd", "plateau")]
    alone, beside = (
        search(task(), spaces, trials=4, seeds=[0, 1], together=count) for count in (1, together)
    )
    for one, other in zip(alone, beside, strict=True):
        assert [(t.params, t.lr, t.value) for t in one.trials] == [
            (t.params, t.lr, t.value) for t in other.trials
        ]


def test_families_trained_together_at_one_lr_share_what_they_have_in_common():
    fixed = {"lr_low": 0.05, "lr_high": 0.05}
    spaces = [space(name, **fixed) for name in ("constant", "step", "wsd")]
    found = search(task(), spaces, trials=4, seeds=[0], together=100)
    constant, step, wsd = ([trial.updates for trial in family.trials] for family in found)
    assert constant == [UPDATES]
    assert sum(step) < 4 * (UPDATES - PER_EPOCH)
    assert sum(wsd) < 4 * (UPDATES - PER_EPOCH)


def test_families_stay_level_however_many_trials_are_trained_together():
    order = []
    search(
        task(),
        [space("step"), space("wsd"), space("exponential")],
        trials=N,
        seeds=[0],
        together=2,
        trial_done=lambda family, number, history: order.append(family),
    )
    for done in range(len(order)):
        counts = [order[:done].count(name) for name in ("step", "wsd", "exponential")]
        assert max(counts) - min(counts) <= 4  # what is drawn before any result is used


def test_a_family_whose_space_raises_leaves_no_trial_running():
    def raises(trial, budget):
        trial.suggest_float("x", 0.0, 1.0)
        if isinstance(trial, optuna.Trial) and trial.number > 1:
            raise RuntimeError("no such space")
        return {}

    family = replace(FAMILIES["constant"], name="odd", space=raises, defaults=lambda budget: [])
    storage = optuna.storages.InMemoryStorage()
    one = space(family=family)
    with pytest.raises(TaskFailed, match="RuntimeError: no such space"):
        search(task(), [one], trials=N, seeds=[0], storage=storage, together=4)
    states = {trial.state for trial in trials_of(storage, "odd")}
    assert TrialState.RUNNING not in states
    assert TrialState.FAIL in states


BAD_SPACES = {
    "crossed": ({"lr_low": 1.0}, r"low <= default <= high.*low=1, default=0.05, high=0.5"),
    "default outside": ({"lr_default": 0.9}, "default=0.9"),
    "zero": ({"lr_low": 0.0}, "low=0"),
    "nan": ({"lr_high": float("nan")}, "high=nan"),
    "warm-up as long as the run": ({"warmup_epochs": 6}, "less than the 6 epochs, but got 6"),
    "negative warm-up": ({"warmup_epochs": -1}, "at least 0.*but got -1"),
}


@pytest.mark.parametrize("case", BAD_SPACES)
def test_a_space_that_cannot_be_searched_is_refused(case):
    fields, message = BAD_SPACES[case]
    with pytest.raises(InvalidArgument, match=message):
        space(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trials": 0}, "trials must be a whole number of at least 1, but got 0"),
        ({"seeds": []}, "there must be at least one training seed"),
        ({"seeds": [3, 3]}, r"training seeds must be distinct, but got \[3, 3\]"),
        ({"storage": "sqlite:////nowhere/at/all/study.db"}, "storage .* cannot be opened"),
        ({"storage": "no url"}, "storage 'no url' must be a URL"),
        ({"spaces": [space(epochs=1)]}, "step needs at least 2 scheduler steps"),
        ({"measure": "f1"}, "watch must be one of"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_in_one_line(fields, message):
    given = {"spaces": [space()], "trials": 2, "seeds": [0], **fields}
    with pytest.raises(InvalidArgument, match=message) as error:
        search(task(), **given)
    assert "\n" not in str(error.value)


def test_a_long_trial_reports_at_most_twelve_of_its_epochs_its_ends_among_them():
    storage, epochs = optuna.storages.InMemoryStorage(), 130
    search(task(epochs=epochs), [space(epochs=epochs)], trials=1, seeds=[0], storage=storage)
    [trial] = trials_of(storage, "step")
    steps = sorted(trial.intermediate_values)
    assert (steps[0], steps[-1], len(steps)) == (0, epochs, 12)
    assert trial.user_attrs["final valid_loss"] == trial.intermediate_values[epochs]


def test_how_many_trials_are_trained_at_once_is_asked_before_each_round():
    class Counting(AloneCrew):
        def fit(self, job):
            rounds.append(len(job.plans))
            super().fit(job)

    rounds, sizes = [], iter([1, 3, 2])
    search(
        linear_task(),
        [space("step"), space("cosine")],
        trials=3,
        seeds=[0],
        ask_size=3,
        together=lambda: next(sizes),
        executor=Counting(Setup(linear_task())),
    )
    assert rounds == [1, 3, 2]
