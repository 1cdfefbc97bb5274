"""The registry of recipes. A new recipe is one file and one entry of `RECIPES`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soups.recipes.dare import dare
from soups.recipes.fisher import fisher
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.learned import learned
from soups.recipes.model_stock import model_stock
from soups.recipes.pruned import pruned
from soups.recipes.shared.mixing import mix_states
from soups.recipes.shared.pool import Ingredient, RecipeFunction, Soup, State, mean_state
from soups.recipes.slerp import slerp
from soups.recipes.task_arithmetic import task_arithmetic
from soups.recipes.ties import ties
from soups.recipes.top_k import top_k
from soups.recipes.uniform import uniform
from soups.recipes.wise_ft import wise_ft

Remake = Callable[[Sequence[Ingredient], Sequence[float], Mapping[str, Any]], State]


@dataclass(frozen=True)
class Recipe:
    """A recipe with its requirements and the way to rebuild its soups; calling it calls its function."""

    function: RecipeFunction
    """`(pool, judge, *, on_decision=None, **options) -> Soup`; the options are its keyword-only parameters."""
    needs_start: bool = False
    """Whether it interpolates with the common start of the pool."""
    needs_judge: bool = True
    """Whether it calls the judge; a recipe without a judge chooses nothing and works without a validation set."""
    remakes_with_judge: bool = False
    """Whether it weights the ingredients by the judge's gradients even when every option is fixed."""
    remake: Remake | None = None
    """`(ingredients, coefficients, options) -> state`: rebuilds the weights of a soup from its card.

    None: the recipe is called with the options that its soup recorded, which leave nothing to choose."""

    def __call__(self, *arguments: Any, **options: Any) -> Soup:
        """Make a soup; see `function`."""
        return self.function(*arguments, **options)


def _remake_mean(ingredients: Sequence[Ingredient], *_: object) -> State:
    return mean_state(ingredients)


RECIPES: dict[str, Recipe] = {
    "uniform": Recipe(uniform, needs_judge=False, remake=_remake_mean),
    "greedy": Recipe(greedy, remake=_remake_mean),
    "greedy_log_loss": Recipe(greedy_log_loss, remake=_remake_mean),
    "pruned": Recipe(pruned, remake=_remake_mean),
    "top_k": Recipe(top_k, remake=_remake_mean),
    "wise_ft": Recipe(wise_ft, needs_start=True),
    "model_stock": Recipe(model_stock, needs_start=True),
    "task_arithmetic": Recipe(task_arithmetic, needs_start=True),
    "ties": Recipe(ties, needs_start=True),
    "dare": Recipe(dare, needs_start=True),
    "slerp": Recipe(slerp),
    "learned": Recipe(learned, remake=mix_states),
    "fisher": Recipe(fisher, remakes_with_judge=True),
}
