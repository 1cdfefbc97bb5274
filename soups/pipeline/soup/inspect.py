"""`main.py --inspect`: reports whether the models of a run can be averaged, and which ones cannot and why."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.average import find_card_mismatches
from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX
from soups.checkpoints.compatibility import find_layout_mismatches
from soups.core.errors import DataError, UserError
from soups.files.atomic import write_table
from soups.files.jsonl import append_record, read_records
from soups.pipeline.run.foreign_pool import natural_key
from soups.pipeline.run.model_files import read_model
from soups.pipeline.run.run import Run
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import score_model
from soups.pipeline.soup.barriers import measure_barriers
from soups.pipeline.soup.pool import ingredient_of, pool_key
from soups.recipes.shared.angles import angles_to_rest, distances_to_rest, gram_matrix, task_vector_lengths
from soups.recipes.shared.tensor_chunks import mapped_view
from soups.report import inspection as report
from soups.weights.safetensors_header import Layout, layout_of
from soups.weights.state_dict import first_not_finite

if TYPE_CHECKING:
    import torch

FAR = 3.0
"""A distance is suspicious from this many times the median distance of the others. On the demo, fine-tunes were within
1.5 times; models with permuted neurons, such as those from another start, were at 9 to 14."""
SQUARE = 80.0
"""Angle to the mean of the others, in degrees, from which directions count as unrelated: independent directions are at
90. On the demo, fine-tunes were at 40 to 50, models from another start at 87 and 88."""


@dataclass
class InspectedModel:
    """A checkpoint under inspection, with the findings about it."""

    name: str
    path: Path
    card: Card
    sha256: str = ""
    why: list[str] = field(default_factory=list)
    """Reasons why it cannot be averaged with the others; empty where it can."""
    notes: list[str] = field(default_factory=list)
    """Further findings."""
    found: dict[str, float | None] = field(default_factory=dict)
    """Numbers by column; see `report.inspection`."""


def inspect(context: RunContext, given_start: Path | None = None) -> None:
    """Print whether the models can be averaged; write `logs/inspection.jsonl` and `output/inspection.csv`.

    Models that cannot be averaged at all (unreadable, duplicate, other network, classes, preprocessing or tensors, not
    finite) are reported and left out. For the others, the linear barrier to the best model is measured (see
    `barriers`), and the task vector (Ilharco et al. 2023, arXiv:2212.04089): its length and its angle to the mean of
    the others. A model is rejected for a barrier beyond noise, or for being both much farther than the others and in an
    unrelated direction (as a model from another start is), unless the barrier is certainly none. Distance or angle
    alone are notes: fine-tunes may differ in either and still average well.

    Args:
        context: the run.
        given_start: the common start that the user named; by default the run's, if the cards name it.

    Raises:
        DataError: there are no models, or a validation image cannot be read.
    """
    run = context.run
    models = _collect_models(run)
    if given_start is not None:
        models = [model for model in models if model.path.resolve() != given_start.resolve()]
    _reject_outliers(run, models)
    fitting = [model for model in models if not model.why]
    heading = _measure(context, fitting, given_start) if fitting else "none could be measured"
    _add_notes([model for model in models if not model.why])
    empty = dict.fromkeys(report.NUMBER_COLUMNS)
    rows = [{"name": model.name, **empty, **model.found, "why": model.why, "notes": model.notes} for model in models]
    _write_results(run, models, rows)
    print(f"run {run.name}: {heading}")
    print(report.format_inspection(rows))


def _measure(context: RunContext, models: Sequence[InspectedModel], given_start: Path | None) -> str:
    """Measure the models that could be averaged and reject the outliers; return in words what the numbers refer to."""
    run, lines = context.run, context.run.results(context.run.individual_results)
    for model in models:
        if model.name not in lines or lines[model.name].get("sha256") != model.sha256:
            lines[model.name] = score_model((context, model.path))
            append_record(run.individual_results, lines[model.name])
    ingredients = [ingredient_of(context, model.path, lines[model.name]) for model in models]
    states = [mapped_view(ingredient) for ingredient in ingredients]
    origin, start = _load_start(run, models, given_start, layout_of(states[0]))
    products = gram_matrix(states, states[0] if start is None else start)
    del states
    _record_distances(models, products, np.ones(len(models), dtype=bool), start is not None)
    doubtful = {model.name for model in models if _seems_strange(model, models)}
    best, barriers = measure_barriers(context, ingredients, models[0].card, doubtful)
    away = []
    for model, ingredient in zip(models, ingredients, strict=True):
        assert ingredient.known_verdict is not None
        verdict = ingredient.known_verdict()
        model.found["val"] = 1 - verdict.errors / verdict.images
        if (barrier := barriers.get(model.name)) is not None:
            model.found |= {"midpoint": barrier.midpoint, "drop": barrier.drop}
            model.found |= {"drop_low": barrier.low, "drop_high": barrier.high}
            if barrier.beyond_noise or (model.name in doubtful and not barrier.surely_none):
                away.append(model)
    _record_distances(models, products, np.array([model not in away for model in models]), start is not None)
    mixing = [model for model in models if model not in away]
    for model in away:
        model.why.append(_explain_barrier(model, mixing, best.name))
    return f"distances from {origin}, drops at the midpoint between each and {best.name}"


def _collect_models(run: Run) -> list[InspectedModel]:
    """Return the pool, and the files beside it that may belong to it."""
    if run.recorded.foreign is not None:
        models = [InspectedModel(path.stem, path, card) for path, card in run.finetunes().items()]
    else:
        paths = sorted(run.models.glob(f"*{SUFFIX}"), key=lambda path: natural_key(path.stem))
        found = [(path, *_examine(run, path)) for path in paths if path != run.start]
        models = [
            InspectedModel(path.stem, path, card, why=why) for path, card, why in found if card.kind == "fine-tune"
        ]
    if not models:
        raise DataError(
            f"{run.models}: no models of run {run.name!r}",
            expected=f"files such as {run.model_name(0)}_epochs10.safetensors",
            next_step=f"train some: python finetune.py --name {run.name} --i 0-11",
        )
    seen: dict[str, str] = {}
    for model, digest in zip(models, run.hashes(model.path for model in models), strict=True):
        model.sha256 = digest
    for model in sorted(models, key=lambda model: bool(model.why)):  # The copy is an outlier in any case.
        if (twin := seen.setdefault(model.sha256, model.name)) != model.name:
            model.why = [f"it is the same file as {twin}, which would count twice"]
    return models


def _examine(run: Run, path: Path) -> tuple[Card, list[str]]:
    """Return the card of a file of the run's models, with the reason why it is not in the pool, if it is not."""
    try:
        card = read_card(path)
    except UserError as error:
        return run.card_without_file, [f"it cannot be read: {_brief(error, path)}"]
    if card is None:
        return run.card_without_file, ["it has no card, so nothing says what it was trained for"]
    if card.kind != "fine-tune" or not {"index", "epochs"} <= card.training.keys():
        return card, ["its card does not say which fine-tune of this run it is"]
    name = run.finetune_name(card)
    if card.split and not run.has_split(card):
        return card, ["it was trained on another split, so that it may know validation images"]
    return card, [] if path.stem == name else [f"it is passed over, because by its card it would be called {name}"]


def _brief(error: UserError, path: Path) -> str:
    texts = {"expected": error.expected, "found": error.found}
    short = {what: text if len(text) < 100 else f"{text[:100]} …" for what, text in texts.items() if text}
    details = ", ".join(f"{what} {text}" for what, text in short.items())
    return error.problem.removeprefix(f"{path}: ") + (f" ({details})" if details else "")


def _reject_outliers(run: Run, models: Sequence[InspectedModel]) -> None:
    """Record for each model that cannot be averaged with the majority one reason why."""
    left = [model for model in models if not model.why]
    odd = find_card_mismatches({model.name: model.card for model in left})
    layouts: dict[str, Layout] = {}
    for model in left:
        if model.name in odd:
            model.why.append(odd[model.name])
            continue
        if set(model.card.classes) != set(run.space.names):
            model.why.append(f"its classes are not those of the data: {', '.join(model.card.classes)}")
            continue
        try:
            state = read_model(run, model.path)
        except UserError as error:
            model.why.append(f"it cannot be read: {_brief(error, model.path)}")
            continue
        layouts[model.name] = layout_of(state)
        if (tensor := first_not_finite(state)) is not None:
            model.why.append(f"its tensor {tensor!r} holds NaN or infinity: its training has diverged")
    strange = find_layout_mismatches(layouts)
    for model in left:
        if model.name in strange:
            model.why = [strange[model.name]]


def _record_distances(
    models: Sequence[InspectedModel], products: np.ndarray, members: np.ndarray, from_start: bool
) -> None:
    """Record distances and, where there is a start, angles to the mean of the members."""
    distances = task_vector_lengths(products) if from_start else distances_to_rest(products, members)
    angles = angles_to_rest(products, members) if from_start else np.full(len(models), np.nan)
    for model, distance, angle in zip(models, distances.tolist(), angles.tolist(), strict=True):
        model.found["distance"] = distance if np.isfinite(distance) else None
        model.found["angle"] = angle if np.isfinite(angle) else None


def _load_start(
    run: Run, models: Sequence[InspectedModel], given: Path | None, layout: Layout
) -> "tuple[str, dict[str, torch.Tensor] | None]":
    """Return the origin of the task vectors in words, and the start's weights if they have the models' layout.

    Without a given start, it is the run's if most models name it.
    """
    place = given
    if place is None and run.start.exists() and _usual_start(models) == run.sha256(run.start):
        place = run.start
    if place is not None:
        state = read_model(run, place)
        if layout_of(state) == layout and first_not_finite(state) is None:
            return f"the start {place.stem}", state
    return "the mean of the others, for want of a common start", None


def _usual_start(models: Sequence[InspectedModel]) -> str:
    return Counter(model.card.start for model in models).most_common(1)[0][0]


def _times_farther(model: InspectedModel, models: Sequence[InspectedModel]) -> float:
    """Return its distance divided by the median of the others."""
    distance = model.found.get("distance")
    others = [other.found.get("distance") for other in models if other is not model]
    usual = float(np.median(known)) if (known := [value for value in others if value is not None]) else 0.0
    return distance / usual if distance is not None and usual > 0 else 1.0


def _seems_strange(model: InspectedModel, models: Sequence[InspectedModel]) -> bool:
    """Return whether distance and direction are those of a model from another start."""
    angle = model.found.get("angle")
    return angle is not None and angle > SQUARE and _times_farther(model, models) > FAR


def _explain_barrier(model: InspectedModel, models: Sequence[InspectedModel], best: str) -> str:
    """Return the likely cause of a barrier, in words."""
    drop, times = model.found["drop"], _times_farther(model, models)
    assert drop is not None
    lost = f"half-way between it and {best}, {100 * drop:.1f} points of accuracy are lost"
    far = f"{times:.1f} times as far away as the others" if times > FAR else ""
    if model.card.start != _usual_start(models):
        return "it comes from another start" + f" ({far})" * bool(far) + f": {lost}"
    if _seems_strange(model, models):
        return f"it seems to come from another start ({far}, in a direction of its own): {lost}"
    return f"it has gone too far ({far}): {lost}" if far else f"it does not mix: {lost}"


def _add_notes(models: Sequence[InspectedModel]) -> None:
    """Add notes about models that can be averaged."""
    for model in models:
        times = _times_farther(model, models)
        if model.card.start != _usual_start(models):
            model.notes.append("it comes from another start, but mixes well; recipes that need the start refuse it")
        elif _seems_strange(model, models):
            text = "in a direction of its own, as if from another start, but mixes well"
            model.notes.append(f"it is {times:.1f} times as far away as the others, {text}")
        elif times > FAR:
            model.notes.append(f"it is {times:.1f} times as far away as the others, but mixes well")


def _write_results(run: Run, models: Sequence[InspectedModel], rows: Sequence[dict[str, Any]]) -> None:
    """Write the table, and the log lines unless the log already ends with equal ones."""
    import pandas as pd

    log, pool = run.folder / "logs" / "inspection.jsonl", pool_key(model.sha256 for model in models)
    lines = []
    for model, row in zip(models, rows, strict=True):
        line = {**row, "model_name": model.name, "pool": pool, "sha256": model.sha256, "can_be_souped": not model.why}
        lines.append({key: value for key, value in line.items() if key != "name"})
    if read_records(log)[-len(lines) :] != lines:
        for line in lines:
            append_record(log, line)
    table = [{**row, "why": "; ".join(row["why"]), "notes": "; ".join(row["notes"])} for row in rows]
    write_table(run.folder / "output" / "inspection.csv", pd.DataFrame(table))
