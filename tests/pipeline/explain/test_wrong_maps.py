"""The method of `validation.py --explain`."""

import pytest

from soups.core.errors import UsageError
from soups.pipeline.explain.wrong_maps import parse_method


def test_the_flag_alone_means_the_default_method() -> None:
    assert parse_method(None) is None
    assert parse_method([]) == "auto"
    assert parse_method(["rollout"]) == "rollout"


def test_an_unknown_method_and_several_methods_are_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'gradcam'"):
        parse_method(["gradcm"])
    with pytest.raises(UsageError, match=r"--explain: several methods\n  expected: one\n  found:    gradcam, cam"):
        parse_method(["gradcam", "cam"])
