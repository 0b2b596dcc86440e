"""A real Ray cluster of two nodes on loopback, each with a core and a card, which is declared."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from executor_laws import (
    check_a_worker_may_be_killed_in_the_middle,
    check_trains_what_one_process_trains,
    dying,
)
from on_loopback import tests_can_be_imported_by_workers  # noqa: F401 (a fixture)
from small_tasks import linear_task, plan

import lrfinder
from lrfinder.errors import InvalidArgument, TaskFailed
from lrfinder.training.executors.choice import at_work
from lrfinder.training.executors.job import Job, Setup
from lrfinder.training.executors.on_ray import Ray

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

STORE = 80 * 2**20
"""Bytes of each node's store, in /dev/shm; Ray takes a third of the memory otherwise."""
SMALL = ["--families", "step", "--trials", "3", "--confirm-runs", "6", "--engine", "sequential"]


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


@pytest.fixture
def address(cluster):
    yield cluster.address
    assert not ray.is_initialized()  # what was connected is not any more


def test_ray_trains_bitwise_what_one_process_trains(address):
    check_trains_what_one_process_trains(Ray(address))


def test_a_worker_that_is_killed_in_the_middle_is_replaced(address, tmp_path):
    check_a_worker_may_be_killed_in_the_middle(Ray(address), tmp_path / "armed")


def test_shares_of_a_card_place_several_workers_on_it(address):
    for executor, workers in ((Ray(address, cpus=0.25, gpus=0.5), 4), (Ray(address, gpus=1), 2)):
        with at_work(executor, Setup(linear_task())) as crew:
            assert crew.workers == workers


def test_a_task_whose_workers_always_die_is_one_line(address):
    setup = Setup(linear_task(), build=dying)
    with (
        pytest.raises(TaskFailed, match=r"a worker died 3 times .* use fewer workers"),
        at_work(Ray(address), setup),
    ):
        raise AssertionError


def test_what_no_node_has_is_one_line(address):
    with (
        pytest.raises(InvalidArgument, match=r"have cpus=64 and gpus=0 .* has 1 and 1, 1 and 1"),
        at_work(Ray(address, cpus=64), Setup(linear_task())),
    ):
        raise AssertionError


def test_what_is_connected_stays_so(cluster):
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        with at_work(Ray(), Setup(linear_task())) as crew:
            crew.fit(Job([plan()]))
        assert ray.is_initialized()
    finally:
        ray.shutdown()


def command(*words: str) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "lrfinder", *words]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_a_run_of_the_command_line_on_ray_is_that_of_one_process(cluster, tmp_path):
    words = ["sweep", "quadratic", "--lr", "0.05", *SMALL]
    on_ray = command(*words, "--ray", cluster.address, "--out", str(tmp_path / "ray"))
    assert on_ray.returncode == 0, on_ray.stderr
    assert "2 workers" in on_ray.stderr
    alone = command(*words, "--out", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    runs = [lrfinder.open_run(tmp_path / name).comparison.runs for name in ("ray", "alone")]
    by_seed = [sorted((one.candidate, one.seed, one.value) for one in own) for own in runs]
    assert by_seed[0] == by_seed[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_in_training(cluster, tmp_path, how):
    words = ["sweep", "digits", "--lr", "0.05", "--epochs", "1000", "--engine", "sequential"]
    line = [sys.executable, "-m", "lrfinder", *words, "--ray", cluster.address, "--out", "run"]
    log = tmp_path / "log"
    with log.open("w") as out:
        parent = subprocess.Popen(line, cwd=tmp_path, stdout=out, stderr=out)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        until(lambda: "2 workers" in log.read_text() or parent.poll() is not None)
        until(lambda: free_cores() == 0 or parent.poll() is not None)
        parent.send_signal(how)
        assert parent.wait(120) == 130, log.read_text()
        until(lambda: free_cores() == 2)
    finally:
        ray.shutdown()
        parent.kill()
    assert "lrfinder run --resume" in log.read_text()


def free_cores() -> float:
    return ray.available_resources().get("CPU", 0)


def until(what, seconds=300.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_an_address_where_nobody_listens_is_one_line_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with (
        pytest.raises(InvalidArgument, match=f"must run at {address}, but .*refused.*ray start"),
        at_work(Ray(address), Setup(linear_task())),
    ):
        raise AssertionError
    assert time.monotonic() - began < 15
