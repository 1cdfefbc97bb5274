"""Soup recipes: pure functions from a pool of ingredients and a judge to a soup, blind to data and devices."""

from soups.recipes.dare import dare
from soups.recipes.fisher import fisher
from soups.recipes.greedy import greedy
from soups.recipes.greedy_log_loss import greedy_log_loss
from soups.recipes.learned import learned
from soups.recipes.model_stock import model_stock
from soups.recipes.pruned import pruned
from soups.recipes.shared.pool import Recipe
from soups.recipes.slerp import slerp
from soups.recipes.task_arithmetic import task_arithmetic
from soups.recipes.ties import ties
from soups.recipes.top_k import top_k
from soups.recipes.uniform import uniform
from soups.recipes.wise_ft import wise_ft

RECIPES: dict[str, Recipe] = {
    "uniform": uniform,
    "greedy": greedy,
    "greedy_log_loss": greedy_log_loss,
    "pruned": pruned,
    "top_k": top_k,
    "wise_ft": wise_ft,
    "model_stock": model_stock,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "dare": dare,
    "slerp": slerp,
    "learned": learned,
    "fisher": fisher,
}

UNJUDGED = ("uniform",)
"""Recipes that choose nothing, and so can do without a judge and without scores."""
