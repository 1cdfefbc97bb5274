"""Devices, precision, threads, jobs, seeds and the cache folder."""

import random
from pathlib import Path

import numpy as np
import pytest

from soups.core.errors import EnvironmentFailure
from soups.runtime import devices as runtime
from soups.runtime.devices import RuntimeSettings


def test_recorded_precision_and_threads_override_the_settings() -> None:
    settings = RuntimeSettings(device="cpu", precision="fp32", threads=1)
    resolved = runtime.resolve(settings, precision="bf16", threads=3)
    assert (resolved.precision, resolved.threads) == ("bf16", 3)


def test_threads_share_the_cores_among_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "available_cores", lambda: 8)
    assert runtime.resolve(RuntimeSettings(device="cpu", precision="fp32", jobs=3)).threads == 2
    assert runtime.resolve(RuntimeSettings(device="cpu", precision="fp32", jobs=99)).threads == 1


def test_automatic_jobs_are_one_for_each_accelerator_or_set_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(runtime, "available_cores", lambda: 8)
    auto = RuntimeSettings(device="cpu", precision="fp32", jobs="auto")
    assert (runtime.resolve(auto).threads, runtime.resolve(auto).jobs) == (1, 8)
    assert runtime.resolve(auto, threads=3).jobs == 2
    assert runtime.resolve(auto, threads=16).jobs == 1
    monkeypatch.setattr(runtime, "select_device", lambda name: "xpu" if name == "auto" else name)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    resolved = runtime.resolve(auto.model_copy(update={"device": "auto"}))
    assert (resolved.threads, resolved.jobs) == (2, 4)
    assert [resolved.for_worker(number).device for number in (None, 0, 5)] == ["xpu", "xpu:0", "xpu:1"]
    assert runtime.resolve(auto.model_copy(update={"device": "xpu:2"})).jobs == 1
    with pytest.raises(ValueError, match="greater than 0"):
        RuntimeSettings(jobs=0)


def test_automatic_precision_is_resolved() -> None:
    assert runtime.resolve(RuntimeSettings(device="cpu")).precision in ("fp32", "bf16")


def test_an_unknown_device_is_explained() -> None:
    with pytest.raises(EnvironmentFailure, match="--device quantum: not usable here"):
        runtime.resolve(RuntimeSettings(device="quantum"))


def test_accelerators_are_assigned_to_workers_round_robin(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert [runtime.device_of_worker("cpu", number) for number in range(3)] == ["cpu"] * 3
    monkeypatch.setattr(runtime, "select_device", lambda name: "xpu" if name == "auto" else name)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert [runtime.device_of_worker("auto", number) for number in range(3)] == ["xpu:0", "xpu:1", "xpu:0"]
    assert runtime.device_of_worker("xpu:1", 0) == "xpu:1"
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert runtime.device_of_worker("auto", 5) == "xpu"


def test_environment_variables_select_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOUPS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    assert runtime.cache_dir() == Path("elsewhere/soups")
    monkeypatch.setenv("SOUPS_CACHE", "mine")
    assert runtime.cache_dir() == Path("mine")


def test_derived_seeds_differ_and_repeat() -> None:
    seeds = [runtime.derived_seed(*entropy) for entropy in [(0,), (1,), (0, 1), (1, 0), (0, 0, 1)]]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [runtime.derived_seed(*entropy) for entropy in [(0,), (1,), (0, 1), (1, 0), (0, 0, 1)]]
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_global_generators_are_seeded_in_the_block_and_restored() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = (random.random(), np.random.random())  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    inside = []
    for _ in range(2):
        with runtime.seeded_globals(7):
            inside.append((random.random(), np.random.random()))  # noqa: NPY002
    assert inside[0] == inside[1]
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002
