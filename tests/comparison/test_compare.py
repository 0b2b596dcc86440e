"""Candidates on common fresh seeds: intervals, corrected tests, ties."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import (
    CONSTANT,
    absolute_error,
    linear_task,
    no_global_draw,
    noisy_task,
    plain_sgd,
)

from lrfinder.comparison.candidates import Candidate, ConfirmedRun
from lrfinder.comparison.compare import compare, compare_by_halving
from lrfinder.comparison.policy import Halving
from lrfinder.comparison.ranking import Comparison
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.schedules import FAMILIES, Schedule
from lrfinder.statistics import student_t
from lrfinder.training.records.history import History, Plan

LINEAR = Schedule(FAMILIES["polynomial"], {"total_iters": 3, "power": 1.0})
GOOD, SLOW = Candidate("good", 0.1, CONSTANT), Candidate("slow", 1e-6, CONSTANT)
DECAY = Candidate("decay", 0.1, LINEAR)
LOST = Candidate("lost", 1e6, CONSTANT)
SEEDS = (11, 12, 13)


def confirmed(name: str, seed: int, value: float, diverged: bool = False) -> ConfirmedRun:
    return ConfirmedRun(
        candidate=name,
        lr=0.1,
        schedule=str(CONSTANT),
        seed=seed,
        value=value,
        diverged=diverged,
        updates=12,
        measures={"loss": float("nan") if diverged else value},
    )


def comparison(direction="minimize", **values: list[float]) -> Comparison:
    """A comparison of these values, one per seed, by candidate."""
    runs = [confirmed(n, seed, v) for n, vs in values.items() for seed, v in enumerate(vs)]
    return Comparison(tuple(runs), direction=direction)


# 97.5% quantiles of Student's t, from a printed table
T = {2: 12.7062, 3: 4.30265, 5: 2.77645, 10: 2.26216}


@pytest.mark.parametrize("count", T)
def test_an_interval_is_students_t(count):
    values = np.random.default_rng(count).standard_normal(count)
    mean, low, high = student_t(values, 0.95)
    spread = np.sqrt(sum((v - sum(values) / count) ** 2 for v in values) / (count - 1))
    half = T[count] * spread / np.sqrt(count)
    assert mean == pytest.approx(sum(values) / count)
    assert low == pytest.approx(mean - half, rel=1e-5)
    assert high == pytest.approx(mean + half, rel=1e-5)


def test_an_interval_of_one_value_has_no_bounds_and_of_none_no_mean():
    mean, low, high = student_t(np.array([3.0]), 0.95)
    assert mean == 3.0
    assert np.isnan([low, high]).all()
    assert np.isnan(student_t(np.array([]), 0.95)).all()


def test_differences_are_paired():
    luck = np.array([0.0, 10.0, -5.0, 3.0, 7.0])
    worse = 0.5 + np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    best, other = comparison(a=list(luck), b=list(luck + worse)).ranking
    assert (best.candidate, other.candidate) == ("a", "b")
    mean, low, high = other.difference
    half = T[5] * worse.std(ddof=1) / np.sqrt(5)
    assert mean == pytest.approx(0.5)
    assert (low, high) == (pytest.approx(0.5 - half, rel=1e-5), pytest.approx(0.5 + half, rel=1e-5))
    assert not other.ties  # although the values themselves overlap
    assert other.value.low < best.value.mean < other.value.high


def p_by_hand(first, second) -> float:
    """Two-sided p of the paired t test on 3 seeds: P(|t| > x) = 1 - x / sqrt(x**2 + 2)."""
    d = np.array(first) - np.array(second)
    t = abs(d.mean()) / (d.std(ddof=1) / np.sqrt(3))
    return 1 - t / np.sqrt(t**2 + 2)


def test_p_values_are_of_the_paired_t_test_corrected_by_holm_over_all_pairs():
    values = {"a": [0.0, 0.1, 0.0], "b": [1.0, 2.0, 3.0], "c": [1.0, 1.1, 1.2], "d": [0.1, 3, 6]}
    raw = {pair: p_by_hand(*map(values.get, pair)) for pair in combinations(values, 2)}
    expected, largest = {}, 0.0
    for rank, pair in enumerate(sorted(raw, key=raw.get)):
        largest = max(largest, (6 - rank) * raw[pair])  # six pairs of four candidates
        expected[pair] = min(1.0, largest)
    ranking = comparison(**values).ranking
    assert ranking[0].candidate == "a"
    assert np.isnan(ranking[0].p)
    for standing in ranking[1:]:
        p = expected["a", standing.candidate]
        assert standing.p == pytest.approx(p)
        assert standing.ties == (p >= 0.05)


def test_a_difference_that_is_no_longer_significant_after_the_correction_ties():
    shift = [1.0, 1.3, 1.6]  # its own p is about 0.018
    alone = comparison(a=[0.0] * 3, b=shift).ranking[1]
    assert alone.p == pytest.approx(0.0176, abs=5e-4)
    assert not alone.ties
    among = comparison(a=[0.0] * 3, b=shift, c=[1.0, 9.0, 2.0]).ranking[1]
    assert among.p == pytest.approx(3 * alone.p)
    assert among.ties
    assert among.difference.low > 0  # an interval for itself alone


def test_few_differences_are_found_where_there_is_none():
    """The best of nine alike candidates is picked on the same seeds that it is compared on."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        noise = {f"c{k}": list(draw.standard_normal(8)) for k in range(9)}
        wrong += any(not s.ties for s in comparison(**noise).ranking[1:])
    assert wrong <= 18  # 5% of 200 is 10, with a standard deviation of 3


@given(
    st.integers(2, 5),
    st.integers(1, 6),
    st.integers(0, 999),
    st.sampled_from(["minimize", "maximize"]),
)
def test_the_ranking_is_by_mean_and_p_values_are_probabilities(candidates, seeds, seed, direction):
    draw = np.random.default_rng(seed)
    values = {f"c{k}": list(draw.standard_normal(seeds)) for k in range(candidates)}
    found = comparison(direction, **values)
    means = [standing.value.mean for standing in found.ranking]
    assert means == sorted(means, reverse=direction == "maximize")
    ps = [standing.p for standing in found.ranking[1:]]
    assert all(0 <= p <= 1 for p in ps) if seeds > 1 else np.isnan(ps).all()
    assert not found.best.ties
    assert found.best.difference.mean == 0
    mirrored = comparison(
        "maximize" if direction == "minimize" else "minimize",
        **{name: [-v for v in vs] for name, vs in values.items()},
    )
    assert [s.candidate for s in mirrored.ranking] == [s.candidate for s in found.ranking]
    assert [s.p for s in mirrored.ranking[1:]] == pytest.approx(ps, nan_ok=True)


def test_a_constant_difference_counts_as_one_sign_and_no_difference_ties():
    base = np.random.default_rng(0).standard_normal(12)
    by_name = {
        s.candidate: s for s in comparison(a=list(base), b=list(base), c=list(base + 1)).ranking
    }
    assert (by_name["b"].p, by_name["b"].ties) == (1.0, True)
    assert by_name["c"].p == pytest.approx(3 * 2.0**-11)
    assert not by_name["c"].ties
    assert comparison(a=[0.0, 0.0], b=[0.5, 0.5]).ranking[1].ties  # two seeds show nothing


def test_a_single_seed_ties_everything():
    found = comparison(a=[1.0], b=[100.0], c=[2.0])
    assert found.ties == ("c", "b")
    assert np.isnan([s.p for s in found.ranking]).all()


def test_a_run_that_got_worse_is_compared_by_what_it_ended_with():
    def climbs(model, lr):
        return torch.optim.SGD(model.parameters(), lr, maximize=True)

    ends: list[tuple[ConfirmedRun, History]] = []
    compare(
        linear_task(optimizer=climbs),
        [Candidate("up", 1e-3, CONSTANT)],
        seeds=SEEDS,
        run_done=lambda run, history: ends.append((run, history)),
    )
    for run, history in ends:
        start, *_, end = history.measures["loss"][0]
        assert run.value == end > start
        assert not run.diverged


def test_one_that_diverged_on_any_seed_comes_last_and_never_ties():
    runs = [confirmed("steady", s, 5.0 + s / 10) for s in range(3)]
    runs += [confirmed("bold", s, 0.1, diverged=s == 1) for s in range(3)]
    steady, bold = Comparison(tuple(runs)).ranking
    assert (steady.candidate, bold.candidate) == ("steady", "bold")
    assert (bold.ties, bold.diverged) == (False, 1)


def test_one_that_diverged_does_not_tie_though_its_values_cannot_be_told_from_the_best():
    values = [(1.0, 1.1), (2.0, 1.9), (3.0, 3.2)]
    runs = [confirmed("steady", s, steady) for s, (steady, _) in enumerate(values)]
    runs += [confirmed("bold", s, bold, diverged=s == 1) for s, (_, bold) in enumerate(values)]
    bold = Comparison(tuple(runs)).ranking[1]
    assert bold.p > 0.05
    assert (bold.candidate, bold.ties) == ("bold", False)


def test_seeds_that_one_candidate_lacks_are_left_out():
    runs = [confirmed("a", s, float(s)) for s in range(4)] + [confirmed("b", 2, 9.0)]
    found = Comparison(tuple(runs))
    assert found.seeds == (2,)
    assert found.best.value.mean == 2.0


def test_a_frame_has_a_row_per_candidate_from_best_to_worst():
    found = comparison(a=[1.0, 2.0], b=[0.5, 0.4])
    frame = found.frame()
    assert frame["candidate"].tolist() == ["b", "a"]
    assert frame["mean"].tolist() == pytest.approx([0.45, 1.5])
    assert frame["difference"].tolist() == pytest.approx([0.0, 1.05])
    assert frame["ties"].tolist() == [False, "a" in found.ties]


def test_every_candidate_is_trained_on_every_seed():
    handed: list[tuple[ConfirmedRun, History]] = []
    made: list[int] = []
    with no_global_draw():
        found = compare(
            linear_task(metrics={"error": absolute_error}),
            [GOOD, SLOW, LOST],
            seeds=SEEDS,
            progress=made.append,
            run_done=lambda run, history: handed.append((run, history)),
        )
    assert found.seeds == SEEDS
    assert {(run.candidate, run.seed) for run in found.runs} == {
        (name, seed) for name in ("good", "slow", "lost") for seed in SEEDS
    }
    assert [standing.candidate for standing in found.ranking] == ["good", "slow", "lost"]
    assert found.best.diverged == 0
    assert found.ranking[-1].diverged == 3
    assert sum(made) == 3 * 3 * 12
    assert {(r.candidate, r.seed) for r, _ in handed} == {(r.candidate, r.seed) for r in found.runs}
    for run, history in handed:
        assert history.plans[0] == Plan(
            {"good": 0.1, "slow": 1e-6, "lost": 1e6}[run.candidate], CONSTANT, run.seed
        )
        if not run.diverged:
            assert run.value == run.measures["loss"] == history.measures["loss"][0, -1]
    assert found.mean("good", "error").mean > 0
    assert np.isnan(found.mean("lost", "loss").mean)


def test_identical_candidates_tie():
    twin = Candidate("twin", GOOD.lr, CONSTANT)
    found = compare(linear_task(), [GOOD, SLOW, twin], seeds=SEEDS)
    assert {standing.candidate for standing in found.ranking[:2]} == {"good", "twin"}
    assert found.ranking[1].ties
    assert found.ranking[1].difference == (0.0, 0.0, 0.0)


def test_a_measure_can_be_maximized():
    task = linear_task(metrics={"gain": lambda out, y: -absolute_error(out, y)})
    found = compare(task, [SLOW, GOOD], seeds=SEEDS, measure="gain", direction="maximize")
    assert found.best.candidate == "good"
    assert found.best.value.mean > found.ranking[1].value.mean
    assert found.ranking[1].difference.mean < 0


def test_known_runs_are_not_repeated():
    task = linear_task()
    first = compare(task, [GOOD, DECAY], seeds=SEEDS[:2])
    trained: list[tuple[str, int]] = []
    again = compare(
        task,
        [GOOD, DECAY],
        seeds=SEEDS,
        known=first.runs,
        run_done=lambda run, history: trained.append((run.candidate, run.seed)),
    )
    assert sorted(trained) == [("decay", 13), ("good", 13)]
    assert all(run in again.runs for run in first.runs)
    assert again.values.equals(compare(task, [GOOD, DECAY], seeds=SEEDS).values)
    nothing_left = compare(task, [GOOD, DECAY], seeds=SEEDS, known=again.runs)
    assert nothing_left.runs == again.runs


def test_known_runs_of_another_lr_or_schedule_are_made_again():
    task = linear_task()
    known = compare(task, [GOOD], seeds=SEEDS[:1]).runs
    for other in (Candidate("good", 0.05, CONSTANT), Candidate("good", GOOD.lr, LINEAR)):
        found = compare(task, [other], seeds=SEEDS[:1], known=known)
        assert found.runs == compare(task, [other], seeds=SEEDS[:1]).runs
        assert found.runs != known


@given(st.lists(st.integers(0, 99), min_size=1, max_size=2, unique=True))
@settings(max_examples=5)
def test_a_candidates_runs_do_not_depend_on_the_others(seeds):
    task = linear_task(optimizer=plain_sgd)
    alone = compare(task, [GOOD], seeds=seeds)
    among = compare(task, [SLOW, GOOD, LOST], seeds=seeds)
    assert [r for r in among.runs if r.candidate == "good"] == list(alone.runs)


@pytest.mark.parametrize(
    ("candidates", "seeds", "message"),
    [
        ([], SEEDS, r"different names, but got \[\]"),
        ([GOOD, GOOD], SEEDS, r"different names, but got \['good', 'good'\]"),
        ([GOOD], [], "there must be at least one training seed"),
        ([GOOD], [3, 3], r"training seeds must be distinct, but got \[3, 3\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(candidates, seeds, message):
    with pytest.raises(InvalidArgument, match=message):
        compare(linear_task(), candidates, seeds=seeds)


def test_a_task_that_raises_ends_the_comparison():
    def broken(output, target):
        raise ValueError("broken")

    with pytest.raises(TaskFailed, match="ValueError: broken"):
        compare(linear_task(criterion=broken), [GOOD], seeds=SEEDS)


def halved(known=(), **options) -> tuple[Comparison, list[tuple[str, int]]]:
    """A comparison by halving, and the runs that were trained for it."""
    trained: list[tuple[str, int]] = []
    compared = compare_by_halving(
        linear_task(),
        [GOOD, SLOW, DECAY, LOST, Candidate("constant", 0.05, CONSTANT), MIDDLE],
        halving=Halving(30, ("constant",), **options),
        seeds=range(40, 90),
        known=known,
        run_done=lambda run, history: trained.append((run.candidate, run.seed)),
    )
    return compared, trained


MIDDLE = Candidate("middle", 0.01, CONSTANT)


def test_a_halved_comparison_trains_each_run_of_its_looks_once():
    compared, trained = halved()
    pairs = [
        (name, seed) for look in compared.looks for name in look.candidates for seed in look.seeds
    ]
    assert sorted(trained) == sorted(pairs)
    assert len(pairs) <= 30
    assert len(compared.looks[0].candidates) == 6
    assert {"slow", "lost"} & set(compared.looks[1].candidates) == set()
    assert "constant" in compared.looks[-1].candidates


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return halved()[0]


@pytest.mark.parametrize("count", [0, 7, 13, 29])
def test_a_halved_comparison_goes_on_from_whatever_runs_there_are(whole, count):
    again, further = halved(whole.runs[:count])
    assert again.looks == whole.looks
    assert again.values.equals(whole.values)
    assert len(further) == len(whole.runs) - count


def test_a_continued_comparison_repeats_nothing(whole):
    after, trained = halved(whole.runs, continued=40)
    assert after.looks[:-1] == whole.looks
    assert after.looks[-1].continues
    assert {name for name, _ in trained} == set(whole.finalists)
    before = {(run.candidate, run.seed) for run in whole.runs}
    assert not before & set(trained)
    assert before | set(trained) == {(run.candidate, run.seed) for run in after.runs}


def test_a_plateau_that_never_dropped_is_the_constant():
    plateau = Schedule(FAMILIES["plateau"], {"mode": "min", "factor": 0.5, "patience": 99})
    compared = compare_by_halving(
        linear_task(),
        [Candidate("constant", 0.05, CONSTANT), Candidate("plateau", 0.05, plateau), SLOW],
        halving=Halving(24, ("constant",)),
        seeds=range(40, 60),
    )
    by_name = {s.candidate: s for s in compared.ranking}
    assert by_name["plateau"].same_as == "constant"
    assert by_name["plateau"].value == by_name["constant"].value
    assert all("plateau" not in look.candidates for look in compared.looks[1:])


def test_a_plateau_that_drops_on_a_later_seed_is_parted_from_the_constant():
    plateau = Schedule(FAMILIES["plateau"], {"mode": "min", "factor": 0.1, "patience": 1})
    candidates = [Candidate("constant", 0.05, CONSTANT), Candidate("plateau", 0.05, plateau), SLOW]
    task, seeds, halving = noisy_task(epochs=6), range(40, 70), Halving(24, ("constant",))
    compared = compare_by_halving(task, candidates, halving=halving, seeds=seeds)
    first, second, *_ = compared.looks
    assert "plateau" in first.candidates
    assert second.followers == ("plateau",)  # it was the constant, and dropped only then
    by_name = {s.candidate: s for s in compared.ranking}
    assert by_name["plateau"].same_as is None
    assert by_name["plateau"].value != by_name["constant"].value
    alone = compare(task, candidates[1:2], seeds=[*first.seeds, *second.seeds])
    own = {run.seed: run for run in compared.runs if run.candidate == "plateau"}
    assert [own[run.seed].value for run in alone.runs] == [run.value for run in alone.runs]
    assert own[first.seeds[0]].updates == 0  # trained once, with the constant
    assert compared.counted <= 24
    again = compare_by_halving(
        task, candidates, halving=halving, seeds=seeds, known=compared.runs[:11]
    )
    assert again.looks == compared.looks


def test_the_best_epoch_of_a_run_is_kept():
    runs = compare(linear_task(), [Candidate("rises", 0.3, CONSTANT), LOST], seeds=SEEDS[:2]).runs
    histories: list[History] = []
    compare(
        linear_task(),
        [Candidate("rises", 0.3, CONSTANT)],
        seeds=SEEDS[:2],
        run_done=lambda run, history: histories.append(history),
    )
    assert [r.best for r in runs[:2]] == [h.measures["loss"].min() for h in histories]
    assert np.isnan([r.best for r in runs[2:]]).all()
