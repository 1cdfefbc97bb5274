"""A pool on a Ray cluster of several machines, one of which is lost in the middle: the bytes of a serial run."""

import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.pipeline.conftest import Desk

if importlib.util.find_spec("ray") is None and not os.environ.get("CI"):
    pytest.skip("Ray is not installed", allow_module_level=True)

MODELS = ("--i", "4-7", "--epochs", "3")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that works at nothing, and a machine of one core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 * 2**20}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
        try:
            cluster.add_node(num_cpus=1, **memory)
            yield cluster
        finally:
            cluster.shutdown()


def test_a_machine_lost_in_the_middle_does_not_show(copy_of: Desk, cluster: Any) -> None:
    models = copy_of.run / "models"
    assert copy_of.finetune(*MODELS) == 0
    paths = [models / f"toys{index}_epochs3.safetensors" for index in range(4, 8)]
    serial = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
        (copy_of.run / "logs" / "training" / f"{path.stem.split('_')[0]}.jsonl").unlink()
    doomed, lost = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20), []

    def lose_it() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            logs = list((copy_of.run / "logs" / "training").glob("toys[4-7].jsonl"))
            if logs and not all(path.exists() for path in paths):
                cluster.remove_node(doomed, allow_graceful=False)
                lost.append(doomed)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=lose_it)
    thread.start()
    try:
        assert copy_of.finetune(*MODELS, "--launcher", "ray", "--ray-address", cluster.address) == 0
    finally:
        thread.join()
    assert lost, "it was lost while there was work"
    assert [path.read_bytes() for path in paths] == serial
