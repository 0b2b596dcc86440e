"""How much faster is a run with 8, 64 or 512 workers, and what do workers that die cost?

    python -m studies.scale             simulates; about 10 minutes on a busy core
    python -m studies.scale --record    trains the runs whose durations are used, 3 minutes

What is simulated is time alone. The program is the real one: `search` asks and tells, the shares
decide which family goes on, `WithWorkers` cuts chunks, posts them, watches for the dead and trains
beside them, `compare_by_halving` drops candidates. Only the training, the storage and the clock are
made up: a run takes the time, and comes to the value, of one that was recorded (digits, 16 runs of
each of eight families with the parameters that the search drew at random, sequential trainer, CPU
seconds; studies/scale_runs.csv), its time stretched so that the mean is one second, a minute or an
hour. A call of the storage is assumed to take 3 ms, a chunk 20 ms more each way, a look of an idle
worker 0.2 s.
The samplers draw at random in place of TPE, and there is no candidate without a search. Workers die
at random, once in 50 runs, come back after half a minute, and are taken for dead after
12 seconds.

    speed-up     seconds of training that the recorded runs take in turn / simulated seconds
    efficiency   speed-up / processes; the parent trains too, and is one of them
    without range test   that of the studies and the comparison alone
    studies, comparison   share of the processes' time in each in which something was trained
    idle         share of the processes' time in which nothing was trained
    lost         share of the processes' time spent on chunks whose worker died

The range test, which the parent makes alone before, is added to the time of both: its length is
that of 3.7 runs (1,700 updates of digits). What was found stands in studies/scale.md.
"""

import argparse
import heapq
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import Event

import numpy as np
import optuna
import pandas as pd

from lrfinder import Candidate, History, Plan, fit
from lrfinder.comparison.compare import compare_by_halving
from lrfinder.comparison.policy import RUNS_PER_CANDIDATE, Halving
from lrfinder.experiment import Experiment
from lrfinder.settings import RunSettings
from lrfinder.training.executors.job import Job
from lrfinder.training.speed import Speed
from lrfinder.tuning.rounds import ask_size, trials_at_once
from lrfinder.tuning.samplers import BracketSampler
from lrfinder.tuning.search import search
from lrfinder.tuning.space import Space
from lrfinder.workers.claims import BEAT, Claim, Clock
from lrfinder.workers.executor import WithWorkers
from lrfinder.workers.mailbox import Sign, Unended

RUNS = Path(__file__).with_name("scale_runs.csv")
FOUND = Path(__file__).with_name("scale.md")
RECORDED_PER_FAMILY = 16
CALL, CHUNK, LOOK = 0.003, 0.02, 0.2
RUNS_PER_DEATH, AWAY = 50, 30.0
RANGE_TEST = 3.7


def record() -> None:
    """Train runs of every family as a search draws them, and write what they take and come to."""
    experiment = Experiment(RunSettings(task="digits"))
    rows = []
    for space in experiment.spaces(None)[0]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for number in range(RECORDED_PER_FAMILY):
            lr, schedule = space.ask(study.ask())
            began = time.process_time()
            history = fit(experiment.task, [Plan(lr, schedule, number)])
            took, (outcome,) = time.process_time() - began, history.outcomes()
            row = {"family": space.family.name, "seconds": round(took, 4)}
            rows.append({**row, "start": outcome.start, "final": outcome.final})
    pd.DataFrame(rows).to_csv(RUNS, index=False, float_format="%.6g")


@dataclass
class Member:
    """One worker in simulated time."""

    chunk: int | None = None
    began: float = 0.0
    dies: bool = False
    """Whether it dies at the end of what it does now."""
    away: bool = False
    chunks: int = 0


@dataclass
class Cluster:
    """Simulated time, and the workers in it; it is the mailbox of their parent, too."""

    seconds_of: Callable[[Plan], float]
    history_of: Callable[[Sequence[Plan]], History]
    count: int
    draws: random.Random
    mean: float
    deaths: bool
    now: float = 0.0
    trained: float = 0.0
    lost: float = 0.0
    busy_here: float = 0.0
    chunks: dict[int, Sequence[Plan]] = field(default_factory=dict[int, Sequence[Plan]])
    waiting: list[int] = field(default_factory=list[int])
    running: dict[int, int] = field(default_factory=dict[int, int])
    ended: dict[int, bool] = field(default_factory=dict[int, bool])

    def __post_init__(self) -> None:
        self.members = [Member() for _ in range(self.count)]
        self.idle = list(range(self.count))
        self.queue: list[tuple[float, int]] = []

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and the workers do what they do in it."""
        self.now += seconds
        while self.queue and self.queue[0][0] <= self.now:
            at, place = heapq.heappop(self.queue)
            one = self.members[place]
            self._end_of(one, at)
            then = self._next_of(one, place, at)
            if then is None:
                self.idle.append(place)
            else:
                heapq.heappush(self.queue, (then, place))

    def wait(self, seconds: float) -> None:
        """Let time pass until something happens; looks in which nothing has are left out."""
        until = self.queue[0][0] - self.now if self.queue else seconds
        self.pass_time(max(seconds, min(until, self.mean / 100)))

    def _end_of(self, one: Member, at: float) -> None:
        if one.chunk is None:
            one.away = False
            return
        if one.dies:
            self.lost += at - one.began
        else:
            one.chunks += 1
            self.running.pop(one.chunk, None)
            if one.chunk in self.chunks and one.chunk not in self.ended:
                self.ended[one.chunk] = True
                self.trained += at - one.began - 2 * CHUNK

    def _next_of(self, one: Member, place: int, at: float) -> float | None:
        """When it ends what it begins now, or comes back; None where it finds nothing to do."""
        if one.chunk is not None and one.dies:
            one.chunk, one.dies, one.away = None, False, True
            return at + AWAY
        one.chunk = None
        if not self.waiting:
            return None
        one.chunk, one.began = self.waiting.pop(0), at
        self.running[one.chunk] = place
        took = sum(map(self.seconds_of, self.chunks[one.chunk]))
        life = self.draws.expovariate(1 / (RUNS_PER_DEATH * self.mean)) if self.deaths else np.inf
        one.dies = life < took
        return at + (life if one.dies else took + 2 * CHUNK)

    # What WithWorkers asks of a mailbox

    def workers(self) -> dict[str, Sign]:
        """Signs of those that are there."""
        if self.now == 0.0:  # they join a run that has begun
            return {}
        self.pass_time(CALL)
        beats = int(self.now / BEAT)
        return {
            str(place): Sign(beats, "", one.chunks)
            for place, one in enumerate(self.members)
            if not one.away
        }

    def post(self, plans: Sequence[Plan], watch: str) -> int:
        """Let a worker train these plans."""
        self.pass_time(CHUNK)
        number = len(self.chunks)
        self.chunks[number] = plans
        self.waiting.append(number)
        if self.idle:
            place = self.idle.pop(self.draws.randrange(len(self.idle)))
            heapq.heappush(self.queue, (self.now + self.draws.uniform(0, LOOK), place))
        return number

    def unended(self) -> dict[int, Unended]:
        """Chunks that wait or are in training."""
        self.pass_time(CALL)
        beats = int(self.now / BEAT)
        found = {number: Unended(True, None) for number in self.waiting}
        for number, place in self.running.items():
            lives = self.members[place].chunk == number
            if number not in self.ended:
                found[number] = Unended(False, beats if lives else "dead")
        return found

    def take_back(self, chunk: int) -> bool:
        """Whether nobody had begun a chunk."""
        self.pass_time(CALL)
        if chunk not in self.waiting:
            return False
        self.waiting.remove(chunk)
        return True

    def give_up(self, chunk: int) -> bool:
        """Whether a chunk had not ended."""
        self.pass_time(CALL)
        self.running.pop(chunk, None)
        return self.ended.setdefault(chunk, False) is False

    def returned(self, chunk: int, plans: Sequence[Plan]) -> History | None:
        """What a chunk came to; None where its worker died."""
        self.pass_time(CHUNK)
        return self.history_of(plans) if self.ended.get(chunk) else None


@dataclass
class Here:
    """The crew in the parent, which trains an epoch at a time."""

    cluster: Cluster
    workers: int = 1

    def fit(self, job: Job) -> None:
        """Train every plan; see `Crew`."""
        cluster = self.cluster
        for row, plan in enumerate(job.plans):
            history, took = cluster.history_of([plan]), cluster.seconds_of(plan)
            for _ in range(20):
                cluster.pass_time(took / 20)
                if job.progress is not None:
                    job.progress(history.updates_asked // 20)
            cluster.trained += took
            cluster.busy_here += took
            if job.finished is not None:
                job.finished([row], history)


class Recorded:
    """What recorded runs took and came to, stretched to a mean duration."""

    def __init__(self, experiment: Experiment, mean: float, seed: int) -> None:
        frame = pd.read_csv(RUNS)
        frame["seconds"] *= mean / frame["seconds"].mean()
        self._by_family = {str(name): own for name, own in frame.groupby("family")}
        self._updates, self._epochs = experiment.updates, experiment.task.epochs
        self._seed = seed

    def _row(self, plan: Plan) -> pd.Series:
        own = self._by_family[plan.schedule.family.name]
        draws = random.Random(f"{plan.lr} {plan.schedule} {plan.seed} {self._seed}")
        return own.iloc[draws.randrange(len(own))]

    def seconds(self, plan: Plan) -> float:
        """What a run takes."""
        return float(self._row(plan)["seconds"])

    def history(self, plans: Sequence[Plan]) -> History:
        """What runs come to."""
        rows = [self._row(plan) for plan in plans]
        shape, per_epoch = (len(plans), self._updates), self._updates // self._epochs
        losses = np.empty((len(plans), self._epochs + 1))
        for place, row in enumerate(rows):
            losses[place] = np.linspace(row["start"], row["final"], self._epochs + 1)
        lost = np.isnan(losses[:, -1])
        return History(
            plans=tuple(plans),
            lr=np.ones((*shape, 1)),
            train_loss=np.ones(shape),
            measures={"loss": losses, "accuracy": np.ones_like(losses)},
            evaluated_at=np.arange(self._epochs + 1) * per_epoch,
            diverged_at=np.where(lost, self._updates // 2, -1),
            trained=np.full(len(plans), self._updates),
            updates_per_epoch=per_epoch,
            raised=(None,) * len(plans),
            stopped=(None,) * len(plans),
        )


def simulated(
    trials: int, of_each: int, processes: int, mean: float, *, deaths: bool, seed: int = 0
) -> dict:
    """One run by so many processes; `of_each` training seeds for a trial."""
    experiment = Experiment(RunSettings(task="digits", trials=trials, trial_seeds=of_each))
    recorded = Recorded(experiment, mean, seed)
    cluster = Cluster(
        recorded.seconds, recorded.history, processes - 1, random.Random(seed), mean, deaths
    )
    crew = WithWorkers(
        Here(cluster),
        cluster,
        Claim(0, Event()),
        1,
        clock=Clock(lambda: cluster.now, cluster.wait),
    )
    seeds = experiment.search_seeds
    speed = Speed(mean / experiment.updates, 0.0)

    def together() -> int:
        return max(1, trials_at_once(experiment.training, len(seeds), speed, 1, crew.workers))

    def sampler(space: Space, _: int, number: int) -> optuna.samplers.BaseSampler:
        if space.only_lr:
            return BracketSampler(number)
        return optuna.samplers.RandomSampler(seed=number % 2**32)

    cluster.pass_time(1.0)
    results = search(
        experiment.task,
        experiment.spaces(None)[0],
        trials=trials,
        even=False,
        seeds=seeds,
        again=experiment.second_seeds,
        measure=experiment.measure,
        executor=crew,
        sampler=sampler,
        ask_size=ask_size(trials, one_lr=False),
        together=together,
    )
    studied = cluster.trained, cluster.now
    made = [trial.again for result in results for trial in result.trials]
    looks = sum(look.runs for look in made if look is not None)
    candidates = [Candidate(r.space.family.name, r.best.lr, r.best.schedule) for r in results]
    halving = Halving(RUNS_PER_CANDIDATE * len(candidates), kept=("constant",))
    compared = compare_by_halving(
        experiment.task,
        candidates,
        halving=halving,
        seeds=experiment.confirm_seeds,
        executor=crew,
    )
    before = RANGE_TEST * mean
    took = cluster.now + before
    speed_up = (cluster.trained + before) / took
    return {
        "runs": sum(len(r.trials) for r in results) * len(seeds) + looks + len(compared.runs),
        "processes": processes,
        "speed-up": speed_up,
        "efficiency": speed_up / processes,
        "without range test": cluster.trained / (processes * cluster.now),
        "studies": studied[0] / (processes * studied[1]),
        "comparison": (cluster.trained - studied[0]) / (processes * (cluster.now - studied[1])),
        "idle": 1 - (cluster.trained + cluster.lost + before) / (processes * took),
        "lost": cluster.lost / (processes * took),
    }


CASES = (
    ("8 families, 10 trials of one seed, the default", 10, 1, (1, 2, 8, 64)),
    ("8 families, 128 trials of 2 seeds", 128, 2, (1, 8, 64, 512)),
)
WHY = """## What is lost, and where

- Before rounds grew with the workers, a sequential trainer was handed one trial at a time, however
  many had joined: an efficiency of 0.30 with 8 processes in the smaller run, 0.03 with 64 in the
  large one (runs of a minute).
- The range test is made by the parent alone: 3.7 runs of digits, less of a longer training.
- One family looks for the lr before the others begin, three trials and then one at a time.
- Families are dropped when all have reached the same number of trials, so that the last runs of
  each such phase are waited for. This is the search's rule, and not the cutting's: the phases of
  the smaller run leave 10 to 20 runs for 8 processes.
- A look of the comparison has 16 to 24 runs, whatever the number of trials: 64 processes train them
  in one wave, and most have none.
- Where a run takes a second, the calls of the storage are what is waited for, at the times assumed
  here (3 ms a call, 20 ms more for a chunk each way). Such runs do not need a cluster.
- Of a worker that dies little is lost (about 1%), but the 12 seconds until it is missed, and its
  own half minute, are idle: the more so at the end of a round.
"""
TIMES = (
    (1.0, False, "A run takes a second; nobody dies"),
    (60.0, False, "A run takes a minute; nobody dies"),
    (60.0, True, "A run takes a minute; workers die"),
    (3600.0, False, "A run takes an hour; nobody dies"),
)


def main() -> None:
    """Simulate, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--record", action="store_true")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if asked.record:
        record()
        return
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "optuna"))
    lines = [
        "# How a run scales",
        "",
        f"Simulated by `python -m studies.scale` (durations recorded on {machine}, {versions}; "
        "the method stands in its header). Nothing here was measured on more than one machine.",
    ]
    for title, trials, of_each, counts in CASES:
        lines += ["", f"## {title.capitalize()}", ""]
        for mean, deaths, what in TIMES:
            rows = [simulated(trials, of_each, n, mean, deaths=deaths) for n in counts]
            lines += [f"{what}:", "", *_table(rows), ""]
            print("\n".join(lines[-len(rows) - 5 :]), flush=True)
    FOUND.write_text("\n".join([*lines, WHY]))


def _table(rows: Sequence[dict[str, float]]) -> list[str]:
    names = list(rows[0])
    cells = [
        [
            f"{row[name]:.0f}" if row[name] >= 100 or name == "processes" else f"{row[name]:.3g}"
            for name in names
        ]
        for row in rows
    ]
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *cells)]


if __name__ == "__main__":
    main()
