"""A real Dask cluster on loopback: two processes of one thread each."""

import pytest
from executor_laws import (
    check_a_worker_may_be_killed_in_the_middle,
    check_trains_what_one_process_trains,
    dying,
)
from on_loopback import tests_can_be_imported_by_workers  # noqa: F401 (a fixture)
from small_tasks import linear_task

import lrfinder
from lrfinder.errors import TaskFailed
from lrfinder.training.executors.choice import at_work
from lrfinder.training.executors.futures import workers_of
from lrfinder.training.executors.job import Setup

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_dask_trains_bitwise_what_one_process_trains(client):
    assert workers_of(client.get_executor()) == 2
    check_trains_what_one_process_trains(client.get_executor())


def test_a_worker_that_is_killed_in_the_middle_is_replaced(client, tmp_path):
    check_a_worker_may_be_killed_in_the_middle(client.get_executor(), tmp_path / "armed")


def test_a_run_on_dask_is_that_of_one_process(client, tmp_path):
    options = {"families": ["step"], "trials": 3, "confirm_runs": 6, "lr": 0.05, "progress": False}
    options["engine"] = "sequential"
    on_dask = lrfinder.run(
        "quadratic", executor=client.get_executor(), out=tmp_path / "dask", **options
    )
    alone = lrfinder.run("quadratic", out=tmp_path / "alone", **options)
    runs = [one.comparison.runs for one in (on_dask, alone)]
    by_seed = [sorted((run.candidate, run.seed, run.value) for run in own) for own in runs]
    assert by_seed[0] == by_seed[1]


def test_a_task_whose_workers_always_die_is_one_line(client):
    setup = Setup(linear_task(), build=dying)
    with (
        pytest.raises(TaskFailed, match=r"Dask has given the same plans to 4 workers"),
        at_work(client.get_executor(), setup),
    ):
        raise AssertionError
