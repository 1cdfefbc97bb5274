"""Soup recipes: pure functions from a pool of ingredients and a judge to a soup, blind to data and devices."""

from soups.recipes.greedy import greedy
from soups.recipes.pool import Recipe
from soups.recipes.uniform import uniform

RECIPES: dict[str, Recipe] = {"uniform": uniform, "greedy": greedy}
