"""Task vectors: the differences between fine-tunes and their common start, of all ingredients, in chunks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from soups.core.errors import DataError
from soups.recipes.shared.budget import finish_soup
from soups.recipes.shared.pool import Ingredient, Judge, OnDecision, Pool, Soup, State, canonical_order
from soups.recipes.shared.sweep import SweepResult, sweep
from soups.recipes.shared.tensor_chunks import iterate_chunks, join_chunks, mapped_states

if TYPE_CHECKING:
    import torch

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
        self.recipe, self.transform = recipe, transform
        self.ingredients = canonical_order(pool.ingredients)
        self.start, *self.states = mapped_states([pool.start, *self.ingredients])
        self.keys = tuple(key for key, tensor in self.start.items() if tensor.is_floating_point())

    def chunks(self, key: str, positions: Sequence[int] | None = None) -> "Iterator[tuple[slice, list[torch.Tensor]]]":
        """Iterate over a task tensor of several ingredients in float64 chunks; see `iterate_chunks`.

        Args:
            key: the tensor.
            positions: of the ingredients in canonical order; None: all.
        """
        positions = range(len(self.states)) if positions is None else positions
        transforms = [self.transform(self.ingredients[each], key) for each in positions] if self.transform else []
        for place, (start, *tasks) in iterate_chunks(
            [self.start[key], *(self.states[each][key] for each in positions)]
        ):
            for task in tasks:
                task.sub_(start)
            yield place, [change(task) for change, task in zip(transforms, tasks, strict=True)] if transforms else tasks

    def merge_chunks(self, merge: "Merge") -> "dict[str, torch.Tensor]":
        """Apply `merge` to the chunks of all task vectors; return a direction in float32 (float64 for such models)."""
        import torch

        direction = {}
        for key in self.keys:
            chunks = ((place, merge(tasks)) for place, tasks in self.chunks(key))
            start = self.start[key]
            direction[key] = join_chunks(chunks, start, torch.promote_types(start.dtype, torch.float32))
        return direction

    def add_to_start(self, direction: "dict[str, torch.Tensor]", scale: float = 1.0) -> State:
        """Return a new state: the start plus `scale` times a direction, in the start's dtypes."""
        state = {}
        for key, tensor in self.start.items():
            if tensor.is_floating_point():
                pairs = iterate_chunks([tensor, direction[key]])
                chunks = ((place, start.add_(step, alpha=scale)) for place, (start, step) in pairs)
                state[key] = join_chunks(chunks, tensor)
            else:
                state[key] = self.states[0][key].clone()
        return state

    def best_soup_along(
        self,
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
            option: the recipe's name for the scale.
            scales: in the option's own unit, in the order in which they are judged; see `values_to_try`.
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
        number = len(self.ingredients)
        assert judge is not None or len(scales) == 1, "choosing takes a judge"
        best = SweepResult(scales[0])
        if judge is not None:
            candidates = ((scale, lambda scale=scale: self.add_to_start(direction, scale * unit)) for scale in scales)
            best = sweep(option, candidates, judge, on_decision, judge_fully=judge_fully)
        how = f"the best of {len(scales)} by validation" if len(scales) > 1 else "as given"
        soup = Soup(
            recipe=self.recipe,
            state=self.add_to_start(direction, best.value * unit),
            ingredients=self.ingredients,
            coefficients=(best.value * unit / number,) * number,
            options={**(options or {}), option: best.value},
            summary=f"{number} model{'' if number == 1 else 's'} from their start, {option} {best.value:g}, {how}",
        )
        return finish_soup(soup, best.score, best.decisions, best.untried)


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
