"""Packages that only some commands need."""

import importlib.util

from soups.core.errors import EnvironmentFailure


def require_package(package: str, purpose: str, distribution: str | None = None) -> None:
    """Check, without importing it, that an optional package is installed.

    Args:
        package: name of the module to import.
        purpose: what needs it, as the message says it: "--loss-fn contrastive".
        distribution: the name that pip installs; by default the module's.

    Raises:
        EnvironmentFailure: the package is not installed; the message says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        name = distribution or package
        raise EnvironmentFailure(f"{purpose} needs {name}, which is not installed", next_step=f"pip install {name}")
