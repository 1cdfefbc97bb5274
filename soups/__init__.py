"""soups: model soups and ensembles for image classification.

Each name is imported when it is first used:

    soups.load(path, device="auto")       loads a model for predictions
    soups.average(paths, weights=None)    computes the weighted mean of checkpoints; .save(path) writes it
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soups.checkpoints.average import average as average
    from soups.predictor import load as load

__version__ = "0.2.0"
__all__ = ["average", "load"]

_MODULES = {"average": "soups.checkpoints.average", "load": "soups.predictor"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'soups' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
