"""Task vectors: the differences between fine-tunes and their common start, of all ingredients, in chunks."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from soups.core.errors import DataError
from soups.recipes.shared.budget import untried_option, untried_text
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, canonical_order
from soups.recipes.shared.sweep import sweep, values_to_try
from soups.recipes.shared.tensor_chunks import iterate_chunks, mapped_view
from soups.weights.state_dict import check_compatible, check_finite

if TYPE_CHECKING:
    import torch

    from soups.recipes.shared.pool import State

    Transform = Callable[[Ingredient, str], Callable[[torch.Tensor], torch.Tensor]]
    Merge = Callable[[list[torch.Tensor]], torch.Tensor]


class TaskVectors:
    """The start of a pool and the task vector of each ingredient.

    Start and ingredients are mapped, so they take no memory; only a chunk of one tensor of each is in float64. Tensors
    that are not averaged (counters) are those of the first ingredient by hash, as in all recipes.

    Args:
        pool: the ingredients and their start.
        recipe: name of the recipe, for the message.
        transform: called with an ingredient and a key; returns the function to apply to that task tensor's chunks, in
            their order. It must do the same at each call.

    Raises:
        DataError: the pool has no start, or start and ingredients do not fit or hold NaN or infinity; names model and
            tensor.
    """

    def __init__(self, pool: Pool, recipe: str, transform: "Transform | None" = None) -> None:
        if pool.start is None:
            raise _no_start_error(recipe, pool.start_problem)
        self.ingredients = canonical_order(pool.ingredients)
        self.transform = transform
        self.start = mapped_view(pool.start)
        check_finite(self.start, pool.start.name)
        self.states: list[State] = []
        for ingredient in self.ingredients:
            state = mapped_view(ingredient)
            check_compatible(self.start, state, pool.start.name, ingredient.name)
            check_finite(state, ingredient.name)
            self.states.append(state)
        self.keys = tuple(key for key, tensor in self.start.items() if tensor.is_floating_point())

    def chunks(self, key: str) -> "Iterator[tuple[slice, list[torch.Tensor]]]":
        """Iterate over a task tensor of all ingredients, in canonical order, in chunks: see `iterate_chunks`."""
        transforms = [self.transform(ingredient, key) for ingredient in self.ingredients] if self.transform else []
        for place, (start, *tasks) in iterate_chunks([self.start[key], *(state[key] for state in self.states)]):
            for task in tasks:
                task.sub_(start)
            yield (
                place,
                [transform(task) for transform, task in zip(transforms, tasks, strict=True)] if transforms else tasks,
            )

    def chunks_of_ingredient(self, position: int) -> "Iterator[torch.Tensor]":
        """Iterate over the whole task vector of the ingredient at `position` in canonical order, in float64 chunks."""
        for key in self.keys:
            transform = self.transform(self.ingredients[position], key) if self.transform else None
            for _, (start, task) in iterate_chunks([self.start[key], self.states[position][key]]):
                task.sub_(start)
                yield task if transform is None else transform(task)

    def merge_chunks(self, merge: "Merge") -> "dict[str, torch.Tensor]":
        """Apply `merge` to the chunks of all task vectors; return a direction in float32 (float64 for such models)."""
        import torch

        direction = {}
        for key in self.keys:
            wide = torch.promote_types(self.start[key].dtype, torch.float32)
            direction[key] = torch.empty(self.start[key].shape, dtype=wide)
            flat = direction[key].view(-1)
            for place, tasks in self.chunks(key):
                flat[place] = merge(tasks)
        return direction

    def add_to_start(self, direction: "dict[str, torch.Tensor]", scale: float = 1.0) -> "State":
        """Return a new state: the start plus `scale` times a direction, in the start's dtypes."""
        import torch

        state = {}
        for key, tensor in self.start.items():
            if not tensor.is_floating_point():
                state[key] = self.states[0][key].clone()
                continue
            state[key] = torch.empty(tensor.shape, dtype=tensor.dtype)
            flat = state[key].view(-1)
            for place, (start, step) in iterate_chunks([tensor, direction[key]]):
                flat[place] = start.add_(step, alpha=scale)
        return state

    def best_soup_along(
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
        judge_fully: bool = False,
    ) -> Soup:
        """Return the best soup by validation among start + scale · direction; of equal scores, the first scale wins.

        Args:
            recipe: its name.
            option: the recipe's name for the scale.
            scales: in the option's own unit, in the order in which they are judged.
            direction: one tensor per floating-point tensor of the start.
            judge: judges each; with a single scale, None leaves the score open.
            on_decision: called with each decision.
            unit: factor from the option to the scale along the direction.
            options: the recipe's other settings.
            judge_fully: judge each on all images, for callers that need the scores themselves.

        Returns:
            The soup; its coefficients are scale · unit / N each, and the rest to 1 is the start's. (For directions
            other than the plain mean, these are the coefficients before dropping and electing.)
        """
        scales = values_to_try(f"{recipe}: {option}", None, scales)
        number = len(self.ingredients)
        assert judge is not None or len(scales) == 1, "choosing takes a judge"
        value, score = scales[0], None
        decisions: tuple[dict[str, Any], ...] = ()
        untried: tuple[str, ...] = ()
        if judge is not None:
            candidates = ((scale, lambda scale=scale: self.add_to_start(direction, scale * unit)) for scale in scales)
            best = sweep(option, candidates, judge, on_decision, judge_fully=judge_fully)
            value, score, decisions, untried = best.value, best.score, best.decisions, best.untried
        how = f"the best of {len(scales)} by validation" if len(scales) > 1 else "as given"
        return Soup(
            recipe=recipe,
            state=self.add_to_start(direction, value * unit),
            ingredients=self.ingredients,
            coefficients=(value * unit / number,) * number,
            score=score,
            decisions=decisions,
            options={**(options or {}), option: value, **untried_option(untried)},
            summary=f"{number} model{'' if number == 1 else 's'} from their start, {option} {value:g}, {how}"
            f"{untried_text(untried)}",
        )


def mean_task(tasks: "list[torch.Tensor]") -> "torch.Tensor":
    """Return the mean of chunks, in place of the first."""
    total, *others = tasks
    for task in others:
        total.add_(task)
    return total.div_(len(tasks))


def _no_start_error(recipe: str, problem: str) -> DataError:
    """Return the error for a pool without a common start."""
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
