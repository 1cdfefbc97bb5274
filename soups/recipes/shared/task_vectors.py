"""Task vectors: what fine-tuning added to the pool's start, of all ingredients side by side, a piece at a time."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from soups.core.errors import DataError
from soups.recipes.shared.budget import untried_option, untried_text
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order
from soups.recipes.shared.sweep import sweep, swept_values
from soups.recipes.shared.tensor_chunks import iterate_chunks, mapped_view
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

    Change = Callable[[Ingredient, str], Callable[[torch.Tensor], torch.Tensor]]
    Merge = Callable[[list[torch.Tensor]], torch.Tensor]


class TaskVectors:
    """The start of a pool and the way from it to each ingredient.

    Start and ingredients are mapped, so they take no memory; in float64 there is a piece of one tensor of each, never
    a model. Tensors that are not averaged (counters) are those of the first ingredient by hash, as everywhere.

    Args:
        pool: the ingredients and their start.
        recipe: for the message.
        change: given an ingredient and a key, what is done to the pieces of that task tensor, in their order; the same
            each time it is asked.

    Raises:
        DataError: the pool has no start, or start and ingredients do not fit or hold NaN or infinity; names model and
            tensor.
    """

    def __init__(self, pool: Pool, recipe: str, change: "Change | None" = None) -> None:
        if pool.start is None:
            raise _startless(recipe, pool.start_problem)
        self.ingredients = canonical_order(pool.ingredients)
        self.change = change
        self.start = mapped_view(pool.start)
        check_finite(self.start, pool.start.name)
        self.states: list[State] = []
        for ingredient in self.ingredients:
            state = mapped_view(ingredient)
            check_compatible(self.start, state, pool.start.name, ingredient.name)
            check_finite(state, ingredient.name)
            self.states.append(state)
        self.keys = tuple(key for key, tensor in self.start.items() if tensor.is_floating_point())

    def pieces(self, key: str) -> "Iterator[tuple[slice, list[torch.Tensor]]]":
        """A task tensor of each ingredient, in canonical order, piece by piece: see `iterate_chunks`."""
        changes = [self.change(ingredient, key) for ingredient in self.ingredients] if self.change else []
        for place, (start, *tasks) in iterate_chunks([self.start[key], *(state[key] for state in self.states)]):
            for task in tasks:
                task.sub_(start)
            yield place, [change(task) for change, task in zip(changes, tasks, strict=True)] if changes else tasks

    def pieces_of_one(self, position: int) -> "Iterator[torch.Tensor]":
        """The whole task vector of the ingredient at this place of the canonical order, in float64, piece by piece."""
        for key in self.keys:
            change = self.change(self.ingredients[position], key) if self.change else None
            for _, (start, task) in iterate_chunks([self.start[key], self.states[position][key]]):
                task.sub_(start)
                yield task if change is None else change(task)

    def merged(self, merge: "Merge") -> "dict[str, torch.Tensor]":
        """A direction: what `merge` makes of the pieces of all task vectors, in float32 (float64 for models in it)."""
        import torch

        direction = {}
        for key in self.keys:
            wide = torch.promote_types(self.start[key].dtype, torch.float32)
            direction[key] = torch.empty(self.start[key].shape, dtype=wide)
            flat = direction[key].view(-1)
            for place, tasks in self.pieces(key):
                flat[place] = merge(tasks)
        return direction

    def moved(self, direction: "dict[str, torch.Tensor]", scale: float = 1.0) -> "State":
        """The start plus `scale` times a direction, in the start's dtypes; a new state."""
        import torch

        state = {}
        for key, tensor in self.start.items():
            if not tensor.is_floating_point():
                state[key] = self.states[0][key].clone()
                continue
            state[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
            flat = state[key].view(-1)
            for place, (start, way) in iterate_chunks([tensor, direction[key]]):
                flat[place] = start.add_(way, alpha=scale)
        return state

    def soup_along(
        self,
        recipe: str,
        option: str,
        scales: tuple[float, ...],
        direction: "dict[str, torch.Tensor]",
        judge: Judge | None,
        on_decision: OnDecision | None,
        *,
        unit: float = 1.0,
        options: Mapping[str, object] | None = None,
        whole: bool = False,
    ) -> Soup:
        """The best soup by validation among start + scale · direction; ties go to the first of the scales.

        Args:
            recipe: its name.
            option: what the scale is called there.
            scales: in the option's own unit, in the order in which they are judged.
            direction: one tensor per floating-point tensor of the start.
            judge: weighs each; with a single scale None leaves the score open.
            on_decision: called with each decision.
            unit: what one of the option is worth along the direction.
            options: the recipe's other settings.
            whole: judge each on all images, where the scores themselves are wanted.

        Returns:
            The soup; its coefficients are scale · unit / N each: what is missing to one is the start's share. (For
            directions that are no plain mean that is the share before dropping and electing.)
        """
        scales = swept_values(f"{recipe}: {option}", None, scales)
        number = len(self.ingredients)
        assert judge is not None or len(scales) == 1, "choosing takes a judge"
        value, score = scales[0], None
        decisions: tuple[dict[str, Any], ...] = ()
        untried: tuple[str, ...] = ()
        if judge is not None:
            candidates = ((scale, lambda scale=scale: self.moved(direction, scale * unit)) for scale in scales)
            best = sweep(option, candidates, judge, on_decision, whole=whole)
            value, score, decisions, untried = best.value, best.score, best.decisions, best.untried
        how = f"the best of {len(scales)} by validation" if len(scales) > 1 else "as given"
        return Soup(
            recipe=recipe,
            state=self.moved(direction, value * unit),
            ingredients=self.ingredients,
            coefficients=(value * unit / number,) * number,
            score=score,
            decisions=decisions,
            options={**(options or {}), option: value, **untried_option(untried)},
            summary=f"{number} model{'' if number == 1 else 's'} from their start, {option} {value:g}, {how}"
            f"{untried_text(untried)}",
        )


def mean_task(tasks: "list[torch.Tensor]") -> "torch.Tensor":
    """The plain mean of pieces, in place of the first."""
    total, *others = tasks
    for task in others:
        total.add_(task)
    return total.div_(len(tasks))


def _startless(recipe: str, problem: str) -> DataError:
    """The error for a pool without a start, or with several."""
    if problem:
        return DataError(
            f"{recipe}: the models come from different starts",
            expected="fine-tunes of one start",
            found=problem,
            next_step="name those of one start with --ingredients, or use uniform, greedy, pruned or top_k",
        )
    return DataError(
        f"{recipe}: the file of the models' common start is missing",
        expected="the start that all models of the pool were fine-tuned from, beside them",
        found="a pool without a start",
        next_step="keep <name>_start.safetensors, which finetune.py writes, with the models that came from it, "
        "or name it with --start FILE; without it, use uniform, greedy, pruned or top_k",
    )
