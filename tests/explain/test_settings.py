"""Names of explanation methods."""

from collections.abc import Callable

import pytest

from soups.core.errors import EnvironmentFailure, UsageError
from soups.explain.methods import METHODS
from soups.explain.settings import NAMES, check_method


def test_the_names_are_those_of_the_methods() -> None:
    assert tuple(METHODS) == NAMES


def test_an_unknown_method_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"unknown method 'gradcan'(?s:.*)did you mean 'gradcam'"):
        check_method("gradcan")


def test_only_gradient_methods_need_grad_cam(hide_packages: Callable[..., None]) -> None:
    hide_packages("pytorch_grad_cam")
    for name in ("auto", "cam", "rollout", "relevance"):
        check_method(name)
    with pytest.raises(EnvironmentFailure, match=r"--method layercam needs grad-cam, which is not(?s:.*)pip install"):
        check_method("layercam")
