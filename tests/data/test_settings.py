"""The flags of the data settings, and the cost of importing them."""

import subprocess
import sys

import pytest
from pydantic import BaseModel, ConfigDict

from soups.cli import flags as cli
from soups.core.errors import UsageError
from soups.data.settings import CacheSettings, DataSettings


class Both(BaseModel):
    """Settings of a command with data and cache."""

    model_config = ConfigDict(frozen=True)

    data: DataSettings = DataSettings()
    cache: CacheSettings = CacheSettings()


def parse(*arguments: str) -> Both:
    return cli.parse(Both, arguments, {}).settings


def test_flags_of_every_kind() -> None:
    both = parse(
        *("--data-location", "d", "--val-ratio", "None", "--class-order", "2", "10", "1", "--skip-bad-images"),
        *("--split-seed", "3", "--cache", "off", "--cache-size", "40", "--group_pattern", r"(w\d+)_"),
    )
    assert both.data == DataSettings(
        data_location="d",
        val_ratio=None,
        class_order=("2", "10", "1"),
        skip_bad_images=True,
        split_seed=3,
        group_pattern=r"(w\d+)_",
    )
    assert both.cache == CacheSettings(cache="off", cache_size=40)
    assert parse("--skip-bad-images", "False").data == DataSettings()


@pytest.mark.parametrize(
    "arguments", [("--val-ratio", "0"), ("--val-ratio", "1.5"), ("--cache", "maybe"), ("--split-seed", "-1")]
)
def test_wrong_values_are_usage_errors(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"{arguments[0]}(?s:.*)expected: (.*)(?s:.*)found:    {arguments[1]}"):
        parse(*arguments)


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = """
import importlib, pkgutil, sys
import soups.data
for module in pkgutil.walk_packages(soups.data.__path__, "soups.data."):
    importlib.import_module(module.name)
heavy = {"torch", "torchvision", "timm", "open_clip", "pandas", "sklearn", "scipy", "PIL", "albumentations"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
