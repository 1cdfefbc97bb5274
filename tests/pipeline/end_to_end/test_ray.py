"""A pool and a test set on a Ray cluster of two machines, one of which is lost: the same bytes as without Ray."""

import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import inference
import main
from tests.toy_runs import ToyRun

pytestmark = pytest.mark.second_tier

if importlib.util.find_spec("ray") is None and not os.environ.get("CI"):
    pytest.skip("Ray is not installed", allow_module_level=True)

MEMORY = {"object_store_memory": 100 * 2**20}
MODELS = ("--i", "4-7", "--epochs", "3")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster: a head node without cores for tasks, and a node of two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "120")  # The tests' machine may be busy.
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **MEMORY})
        processes: list[Any] = []
        try:
            cluster.add_node(num_cpus=2, **MEMORY)
            processes += processes_of(cluster.list_all_nodes())
            yield cluster
        finally:
            cluster.shutdown()
            for process in processes:
                process.wait(600)


def processes_of(nodes: list[Any]) -> list[Any]:
    """The processes of nodes, which Ray does not wait for (Python warns of that)."""
    return [info.process for node in nodes for each in node.all_processes.values() for info in each]


def test_a_lost_machine_does_not_change_the_models(toy_run_copy: ToyRun, cluster: Any) -> None:
    models = toy_run_copy.run / "models"
    assert toy_run_copy.finetune(*MODELS) == 0
    paths = [models / f"toys{index}_epochs3.safetensors" for index in range(4, 8)]
    serial = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
        (toy_run_copy.run / "logs" / "training" / f"{path.stem.split('_')[0]}.jsonl").unlink()
    doomed, lost = cluster.add_node(num_cpus=1, **MEMORY), []
    processes, over = processes_of([doomed]), threading.Event()

    def lose_it() -> None:
        while not over.wait(0.02):
            logs = list((toy_run_copy.run / "logs" / "training").glob("toys[4-7].jsonl"))
            if logs and not all(path.exists() for path in paths):
                cluster.remove_node(doomed, allow_graceful=False)
                lost.append(doomed)
                return

    thread = threading.Thread(target=lose_it)
    thread.start()
    try:
        assert toy_run_copy.finetune(*MODELS, "--launcher", "ray", "--ray-address", cluster.address) == 0
    finally:
        over.set()
        thread.join()
    for process in processes:
        process.wait(600)
    assert lost, "it was lost while there was work"
    assert [path.read_bytes() for path in paths] == serial


def test_scores_are_returned_and_candidates_are_judged_in_parallel(toy_run_copy: ToyRun, cluster: Any) -> None:
    there = ("--launcher", "ray", "--ray-address", cluster.address)
    lines = sorted(toy_run_copy.log("individual_results.jsonl"), key=str)
    soup = toy_run_copy.run / "models" / "toys_greedy_soup.safetensors"
    content = soup.read_bytes()
    for path in (
        soup,
        *(toy_run_copy.run / "logs" / f"{name}.jsonl" for name in ("individual_results", "greedy_soup")),
    ):
        path.unlink()
    shutil.rmtree(toy_run_copy.run / "logits")
    assert main.main(["--eval-individual-models", *there, "--no-shared-storage"]) == 0
    assert sorted(toy_run_copy.log("individual_results.jsonl"), key=str) == lines
    assert main.main(["--greedy-soup", "--at-once", "2", *there]) == 0
    assert soup.read_bytes() == content


def test_shards_are_predicted_on_the_cluster(
    toy_run_copy: ToyRun, cluster: Any, printed_text: Callable[[], str]
) -> None:
    there = ("--launcher", "ray", "--ray-address", cluster.address)
    command = ["--soft-voting", "--eval-batch-size", "4", "--shard-size", "8", "--probabilities", "--output"]
    shutil.rmtree(toy_run_copy.run / "logits")
    assert inference.main([*command, "here.csv"]) == 0
    (first, *_) = (toy_run_copy.run / "logits").iterdir()
    for path in (toy_run_copy.run / "logits").iterdir():
        if path != first:
            path.unlink()
    printed_text()
    assert inference.main([*command, "there.csv", *there]) == 0
    assert "1 of 9 tasks are done already" in (printed := printed_text()) and "(8 of 8)" in printed
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()


def test_a_missing_ray_is_one_message(
    toy_run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch, printed_text: Callable[[], str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert toy_run_copy.finetune(*MODELS, "--launcher", "ray") == 4
    assert "--launcher ray needs ray, which is not installed next: pip install ray" in printed_text()
