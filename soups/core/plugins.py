"""Installed plugins: packages that add recipes, losses, layouts, metrics, voting rules or backbone families.

A plugin declares an entry point of the group `soups.plugins` that names a function without parameters. The function
adds entries to the registries (`RECIPES`, `LOSSES`, `LAYOUTS`, `METRICS`, `RULES`, `BUILDERS`).
"""

from functools import cache
from importlib.metadata import entry_points

from soups.core.errors import EnvironmentFailure, UserError

GROUP = "soups.plugins"


@cache
def load_plugins() -> tuple[str, ...]:
    """Call the registering function of each installed plugin, once per process, and return their names.

    Raises:
        EnvironmentFailure: a plugin cannot be imported or its function raises.
    """
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    for point in points:
        try:
            point.load()()
        except UserError:
            raise
        except Exception as error:  # Anything may be wrong in the code of a plugin.
            raise EnvironmentFailure(
                f"plugin {point.name} ({point.value}): {type(error).__name__}: {error}",
                expected="an importable function without parameters that registers what the plugin adds",
                next_step="update or uninstall the package that provides it",
            ) from error
    return tuple(point.name for point in points)
