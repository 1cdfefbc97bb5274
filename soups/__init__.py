"""soups: model soups and ensembles for image classification.

A table of contents; each name is imported when it is first used:

    soups.load(path, device="auto")       a model, soup or not, ready to predict
    soups.average(paths, weights=None)    the weighted mean of checkpoints, to be saved with .save(path)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soups.checkpoints.average import average as average
    from soups.predictor import load as load

__version__ = "0.2.0"
__all__ = ["average", "load"]

_HOMES = {"average": "soups.checkpoints.average", "load": "soups.predictor"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'soups' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
