"""Launchers: the check of their settings and the local launcher."""

import os
import socket

import pytest

from soups.core.errors import EnvironmentFailure, UsageError
from soups.runtime.devices import Runtime
from soups.runtime.launchers import LaunchSettings, LocalLauncher, make_launcher, require_launcher


def _add(number: int, common: int = 0) -> tuple[int, int]:
    return number + common, os.getpid()


def test_the_local_launcher_passes_the_common_argument() -> None:
    launcher = make_launcher(LaunchSettings(), Runtime(precision="fp32", threads=1))
    assert isinstance(launcher, LocalLauncher)
    here = os.getpid()
    assert list(launcher.run_all(_add, [1, 2])) == [(1, (1, here)), (2, (2, here))]
    assert list(launcher.run_all(_add, [1, 2], common=5)) == [(1, (6, here)), (2, (7, here))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"launcher": "rey"}, "unknown launcher 'rey'(?s:.*)did you mean 'ray'"),
        ({"ray_address": "auto"}, "--ray-address is for a Ray cluster(?s:.*)add --launcher ray"),
        ({"no_shared_storage": True}, "--no-shared-storage is for a Ray cluster"),
    ],
)
def test_settings_of_other_launchers_are_rejected(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_launcher(LaunchSettings.model_validate(settings))


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("there", UsageError, "expected: auto, HOST:PORT or ray://HOST:PORT"),
        ("there:port", UsageError, "--ray-address there:port"),
        ("127.0.0.1:{}", EnvironmentFailure, "no Ray cluster answers"),
        ("ray://127.0.0.1:{}", EnvironmentFailure, "ray start --head"),
    ],
)
def test_an_address_without_a_cluster_is_rejected(address: str, kind: type[Exception], words: str) -> None:
    with socket.socket() as probe:  # Bound, but not listening.
        probe.bind(("127.0.0.1", 0))
        settings = LaunchSettings(launcher="ray", ray_address=address.format(probe.getsockname()[1]))
        with pytest.raises(kind) as raised:
            require_launcher(settings)
    assert words in str(raised.value)
