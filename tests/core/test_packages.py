"""Packages that only some commands need."""

import pytest

from soups.core.errors import EnvironmentFailure
from soups.core.packages import require_package


def test_an_installed_package_passes() -> None:
    """Nothing is raised, and nothing is imported."""
    require_package("json", "this test")


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    """The message names what needs it, and pip's name for it."""
    with pytest.raises(EnvironmentFailure) as caught:
        require_package("no_such_module", "soups explain", "no-such-package")
    assert str(caught.value).startswith("soups explain needs no-such-package, which is not installed")
    assert "pip install no-such-package" in str(caught.value)
    assert caught.value.exit_code == 4
