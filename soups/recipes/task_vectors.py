"""Task vectors: what fine-tuning added to the pool's start, read one ingredient at a time."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from soups.errors import DataError
from soups.recipes.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order
from soups.recipes.sweep import sweep, swept_values
from soups.weights import check_compatible, refuse_nan

if TYPE_CHECKING:
    import torch

    from soups.recipes.pool import State

    Change = Callable[[Ingredient, str, torch.Tensor], torch.Tensor]


class TaskVectors:
    """The start of a pool and the way from it to each ingredient, tensor by tensor.

    Iterating reads the ingredients in canonical order, one in memory at a time beside the start, and yields
    (ingredient, key, task tensor in float64, new) for each floating-point tensor. Each iteration reads them again.
    Tensors that are not averaged (counters) are those of the first ingredient by hash, as everywhere.

    Args:
        pool: the ingredients and their start.
        recipe: for the message.
        change: applied to each task tensor as it comes; the same each time for the same ingredient and key.

    Raises:
        DataError: the pool has no start, or start and ingredients do not fit or hold NaN; names model and tensor.
    """

    def __init__(self, pool: Pool, recipe: str, change: "Change | None" = None) -> None:
        if pool.start is None:
            raise DataError(
                f"{recipe}: the file of the models' common start is missing",
                expected="the start that all models of the pool were fine-tuned from, beside them",
                found="a pool without a start",
                next_step="keep <name>_start.safetensors, which finetune.py writes, with the models that came from it, "
                "or give Pool(start=…); without it, use uniform, greedy, pruned or top_k",
            )
        self.ingredients = canonical_order(pool.ingredients)
        self.change = change
        self.start_name = pool.start.name
        self.start = pool.start.load()
        refuse_nan(self.start, self.start_name)
        self.others: dict[str, torch.Tensor] = {}

    def __iter__(self) -> "Iterator[tuple[Ingredient, str, torch.Tensor]]":
        """The floating-point tensors of each ingredient's task vector, in canonical order."""
        import torch

        for position, ingredient in enumerate(self.ingredients):
            state = ingredient.load()
            check_compatible(self.start, state, self.start_name, ingredient.name)
            refuse_nan(state, ingredient.name)
            if position == 0:
                self.others = {key: value.clone() for key, value in state.items() if not value.is_floating_point()}
            for key in self.start:
                if not self.start[key].is_floating_point():
                    continue
                tensor = state[key].to(torch.float64) - self.start[key].to(torch.float64)
                yield ingredient, key, tensor if self.change is None else self.change(ingredient, key, tensor)
            del state  # The next one must not be loaded beside it.

    def mean(self) -> "dict[str, torch.Tensor]":
        """The mean task vector in float64: the only copy beside the start and one ingredient."""
        total: dict[str, torch.Tensor] = {}
        for _, key, tensor in self:
            if key in total:
                total[key].add_(tensor)
            else:
                total[key] = tensor
        for tensor in total.values():
            tensor.div_(len(self.ingredients))
        return total

    def moved(self, direction: "dict[str, torch.Tensor]", scale: float = 1.0) -> "State":
        """The start plus `scale` times a direction, in the start's dtypes; a new state."""
        import torch

        return {
            key: tensor.to(torch.float64).add(direction[key], alpha=scale).to(tensor.dtype)
            if tensor.is_floating_point()
            else self.others[key].clone()
            for key, tensor in self.start.items()
        }

    def soup_along(
        self,
        recipe: str,
        option: str,
        scales: tuple[float, ...],
        direction: "dict[str, torch.Tensor]",
        judge: Judge,
        on_decision: OnDecision | None,
        *,
        unit: float = 1.0,
        options: Mapping[str, object] | None = None,
    ) -> Soup:
        """The best soup by validation among start + scale · direction; ties go to the first of the scales.

        Args:
            recipe: its name.
            option: what the scale is called there.
            scales: in the option's own unit, in the order in which they are judged.
            direction: float64, one tensor per floating-point tensor of the start.
            judge: weighs each.
            on_decision: called with each decision.
            unit: what one of the option is worth along the direction.
            options: the recipe's other settings.

        Returns:
            The soup; its coefficients are scale · unit / N each: what is missing to one is the start's share. (For
            directions that are no plain mean that is the share before dropping and electing.)
        """
        scales = swept_values(f"{recipe}: {option}", None, scales)
        number = len(self.ingredients)
        candidates = ((scale, lambda scale=scale: self.moved(direction, scale * unit)) for scale in scales)
        best = sweep(option, candidates, judge, on_decision)
        how = f"the best of {len(scales)} by validation" if len(scales) > 1 else "as given"
        return Soup(
            recipe=recipe,
            state=self.moved(direction, best.value * unit),
            ingredients=self.ingredients,
            coefficients=(best.value * unit / number,) * number,
            score=best.score,
            decisions=best.decisions,
            options={**(options or {}), option: best.value},
            summary=f"{number} model{'' if number == 1 else 's'} from their start, {option} {best.value:g}, {how}",
        )
