"""Training on a Ray cluster: parts are Ray tasks, each with so many cores and so much of a card.

The setup lies in Ray's object store, so that each node is sent it once. Which node trains a part is
Ray's to say.
"""

import signal
import socket
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lrfinder.errors import InvalidArgument, LRFinderError
from lrfinder.tasks.user_code import describe
from lrfinder.training.executors.elsewhere import prepared, trained
from lrfinder.training.executors.job import Setup
from lrfinder.training.executors.submitting import Returned, SubmittingCrew, WorkerDied
from lrfinder.training.records.sent import SentPlan

_LOCAL = "local"
_ANSWERS_WITHIN = 10.0
"""Seconds within which a cluster must take a connection: Ray itself tries for minutes."""
_DEATHS = (
    "WorkerCrashedError",
    "NodeDiedError",
    "LocalRayletDiedError",
    "OutOfMemoryError",
    "ObjectLostError",
)
"""Errors of Ray, by name, that say that a worker or its node has gone, or what it had returned."""


@dataclass(frozen=True)
class Ray:
    """Trains on a Ray cluster (`pip install 'lrfinder[ray]'`).

    Args:
        address: of the cluster: "auto" for the one that this machine belongs to, HOST:PORT, or
            "local" for one that is started here and ends with the training. By default as Ray has
            it: one that runs here, or a local one. Where this process is connected to a cluster
            already, that one trains, whatever the address.
        cpus: cores of each worker, which trains on as many threads.
        gpus: cards of each worker; 0.25 places four of them on one card, a quarter of the runs
            that it holds for each.

    >>> Ray("auto", gpus=0.25)
    Ray(address='auto', cpus=1, gpus=0.25)

    Raises InvalidArgument for numbers that no worker can have.
    """

    address: str | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if not 0 < self.cpus < float("inf"):
            raise InvalidArgument(f"cpus must be a positive number, but got {self.cpus}")
        if not (0 <= self.gpus <= 1 or (self.gpus > 1 and float(self.gpus).is_integer())):
            raise InvalidArgument(
                f"gpus must be a share of a card, or a whole number of them, but got {self.gpus}"
            )

    def check_installed(self) -> None:
        """Raise InvalidArgument where there is no Ray to train with."""
        if find_spec("ray") is None:
            raise InvalidArgument(
                "training on Ray needs the package ray, which is not installed; "
                "pip install 'lrfinder[ray]', or use workers of this machine (--workers 4)"
            )

    @contextmanager
    def at_work(self, setup: Setup) -> Generator[SubmittingCrew]:
        """Workers of the cluster; see `Executor`.

        Raises InvalidArgument where Ray is not installed, no cluster answers, or no node of it has
        the cores and cards of a worker.
        """
        device = setup.in_use.device or setup.task.prototype.device
        if device.type == "cuda" and not self.gpus:
            raise InvalidArgument(
                "the device is cuda, but a worker on Ray has no card; give Ray(gpus=1), or a share "
                "such as gpus=0.25"
            )
        with self._connected() as ray:
            needs = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)
            sent = ray.put(setup.packed())
            engine = _Tasks(ray, self.cpus, self.gpus, sent, needs(prepared), needs(trained))
            if engine.workers == 0:
                raise InvalidArgument(
                    f"a node of the Ray cluster must have cpus={self.cpus:g} and "
                    f"gpus={self.gpus:g} for a worker, but it has {engine.described}"
                )
            yield SubmittingCrew(engine, setup, self.gpus if 0 < self.gpus < 1 else 1.0)

    @contextmanager
    def _connected(self) -> Generator[Any]:
        """Ray, connected to the cluster; as it was before, after the block."""
        self.check_installed()
        ray: Any = import_module("ray")
        if ray.is_initialized():
            yield ray
            return
        _check_answers(self.address)
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        started = {"include_dashboard": False} if self.address == _LOCAL else {}
        try:
            with _handler_kept():
                ray.init(address=self.address, **quiet, **started)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(self.address, describe(error)) from error
        try:
            yield ray
        finally:
            ray.shutdown()


@dataclass(frozen=True)
class _Tasks:
    """Tasks of Ray, to which the setup is known."""

    ray: Any
    cpus: float
    gpus: float
    setup: Any
    """A reference to it in Ray's store."""
    prepared: Any
    trained: Any
    """The functions as Ray knows them."""
    out: dict[Future[Any], Any] = field(default_factory=dict[Future[Any], Any])
    """References to what is not returned yet."""

    @property
    def workers(self) -> int:
        """How many fit on the nodes there are now."""
        return sum(self._fit(node) for node in self._nodes)

    @property
    def described(self) -> str:
        """The cores and cards of the nodes."""
        nodes = [f"{n.get('CPU', 0):g} and {n.get('GPU', 0):g}" for n in self._nodes]
        return ", ".join(nodes) or "no node"

    def prepare(self) -> Future[LRFinderError | None]:
        return self._out(self.prepared.remote(self.setup))

    def train(self, plans: Sequence[SentPlan], watch: str) -> Future[Returned]:
        count = max(1, int(self.cpus))
        return self._out(self.trained.remote(self.setup, plans, watch, count))

    def meant(self, error: Exception) -> Exception:
        errors = self.ray.exceptions
        if isinstance(error, tuple(getattr(errors, name) for name in _DEATHS)):
            return WorkerDied(describe(error).partition(".")[0])
        if isinstance(error, errors.RayTaskError):
            cause = vars(error).get("cause")
            return cause if isinstance(cause, Exception) else error
        return error

    def stop(self, futures: Sequence[Future[Returned]]) -> None:
        for future in futures:
            reference = self.out.get(future)
            if reference is not None:
                self.ray.cancel(reference, force=True)

    @property
    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _fit(self, node: dict[str, float]) -> int:
        by_cores = int(node.get("CPU", 0) / self.cpus)
        return min(by_cores, int(node.get("GPU", 0) / self.gpus)) if self.gpus else by_cores

    def _out(self, reference: Any) -> Future[Any]:  # noqa: ANN401
        future: Future[Any] = reference.future()
        self.out[future] = reference
        future.add_done_callback(self._returned)
        return future

    def _returned(self, future: Future[Any]) -> None:
        self.out.pop(future, None)


@contextmanager
def _handler_kept() -> Generator[None]:
    """Leave it as it was what a signal to end does: with Ray's handler no run could be resumed."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _check_answers(address: str | None) -> None:
    """Raise InvalidArgument where nobody takes a connection at HOST:PORT."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_WITHIN).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, why: str) -> InvalidArgument:
    where = "on this machine" if address in (None, "auto", _LOCAL) else f"at {address}"
    return InvalidArgument(
        f"a Ray cluster must run {where}, but {why}; "
        "start one (`ray start --head`), or use workers of this machine (--workers 4)"
    )
