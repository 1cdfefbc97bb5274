"""The command `explain`: saliency maps of a model as files, a sheet, a page and a faithfulness table."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, unknown_name
from soups.core.labels import LabelSpace
from soups.core.sampling import evenly_spaced
from soups.data.images.decode import decode
from soups.data.images.geometry import evaluation_geometry, visible_box
from soups.explain.methods import METHODS, describe_layers, resolve_method
from soups.explain.methods import explain as compute_heatmaps
from soups.explain.settings import MapSettings, check_method
from soups.files.atomic import atomic_write, write_array, write_table
from soups.models.build import build_with_weights
from soups.pipeline.commands.validate import open_context_of_model
from soups.pipeline.explain.faithfulness import measure_curves, print_faithfulness
from soups.pipeline.explain.images import (
    ExplainedImage,
    ExplainedModel,
    PredictedImages,
    images_of_files,
    images_of_set,
    select_images,
)
from soups.pipeline.score.context import RunContext
from soups.pipeline.settings.tools import ExplainSettings
from soups.pipeline.soup.ingredient_index import IngredientIndex
from soups.report.figures.grid import Tile
from soups.report.figures.overlays import SheetRow, draw_sheet, magnify, overlay
from soups.report.figures.style import BLACK, GREEN, VERMILION, shorten
from soups.report.html.pages import ImageCard, Section, write_page

logger = logging.getLogger(__name__)

_LONGEST = 22
_ROLES = {"predicted": "for the prediction", "truth": "for the truth", "asked": "for the class"}
_INTRO = [
    "Bright: evidence for the class, scaled from minimum to maximum in each map. Grey: the image as the model sees "
    "it. A dark map: the method found no evidence for the class.",
    "A map shows which pixels the prediction depends on, not whether it is right. The faithfulness table shows how "
    "far to trust the method here.",
]


@dataclass(frozen=True)
class MapRequest:
    """An image and the class to explain."""

    image: ExplainedImage
    role: str
    """`predicted`, `truth`, `asked` (`--class-name`), or the name of an ingredient."""
    label: int
    """The explained class."""


@dataclass(frozen=True)
class ExplanationMap(MapRequest):
    """A saliency map of one image."""

    probability: float
    """Probability of the explained class by the explained model, in [0, 1]."""
    heat: np.ndarray
    """(S, S) float32 in [0, 1]."""


def explain(parsed: ParsedSettings[ExplainSettings]) -> None:
    """Write maps, overlays, sheet, page and tables; prints the faithfulness table and the paths.

    Raises:
        UsageError: A method, class, set or layer is unknown, or the method does not support the model.
        DataError: Images do not exist or cannot be read.
    """
    settings = parsed.settings
    check_method(settings.maps.method)
    context, path = open_context_of_model(parsed)
    space = context.space_of(path)
    if settings.class_name is not None and settings.class_name not in space.names:
        raise unknown_name("class", settings.class_name, space.names)
    asked = None if settings.class_name is None else space.names.index(settings.class_name)
    model = ExplainedModel.load(context, path, space)
    classifier, card = model.classifier, model.card
    if settings.images:
        predicted = images_of_files(context, model, settings.images)
    else:
        predicted = images_of_set(context, path, settings.on, space)
    selected = select_images(predicted, None if settings.images else settings.count)
    pixels = predicted.images.take([image.row for image in selected])
    method = resolve_method(classifier, pixels, card.preprocessing, settings.maps)
    map_settings = settings.maps.model_copy(update={"method": method})
    read = describe_layers(classifier, pixels, card.preprocessing, method, map_settings.target_layer)
    requests = _map_requests(predicted, selected, asked, method)
    maps = _compute_maps(model, predicted, requests, map_settings)
    for name, ingredient in _load_ingredients(model, path, context, settings):
        # The class of the soup's first map of each image.
        own = [MapRequest(each.image, name, each.label) for each in requests if each.role != "truth"]
        maps += _compute_maps(ingredient, predicted, own, map_settings, context)
    folder = Path(settings.output or context.run.folder / "output" / "explain" / f"{path.stem}_{method}")
    heading = f"{path.stem}: {method} of {predicted.description}, from {read}"
    files = _write_files(model, predicted, maps, folder, heading)
    if map_settings.faithfulness:
        rows = evenly_spaced(len(predicted.labels), map_settings.faithfulness)
        labels = predicted.predictions[rows] if asked is None else np.full(len(rows), asked)
        curves = measure_curves(model, predicted, rows, labels, map_settings)
        print(heading)
        files += print_faithfulness(curves, predicted, rows, folder, heading)
    print(*files, sep="\n")


def _map_requests(
    predicted: PredictedImages, selected: Sequence[ExplainedImage], asked: int | None, method: str
) -> list[MapRequest]:
    """Return the maps to make of each image: of the class asked for, else of the predicted and the true class."""
    if asked is not None:
        return [MapRequest(image, "asked", asked) for image in selected]
    requests = []
    for image in selected:
        prediction, truth = int(predicted.predictions[image.row]), int(predicted.labels[image.row])
        requests.append(MapRequest(image, "predicted", prediction))
        if truth not in (-1, prediction) and METHODS[method].class_specific:
            requests.append(MapRequest(image, "truth", truth))
    return requests


def _compute_maps(
    model: ExplainedModel,
    predicted: PredictedImages,
    requests: Sequence[MapRequest],
    settings: MapSettings,
    context: RunContext | None = None,
) -> list[ExplanationMap]:
    """Return the requested maps of a model.

    Args:
        model: The model.
        predicted: The images with the predictions of the model that the command explains.
        requests: The images and classes.
        settings: Method and layer.
        context: Given for another model than that of `predicted`, whose probabilities are computed.
    """
    rows, labels = [each.image.row for each in requests], np.array([each.label for each in requests])
    classifier, preprocessing = model.classifier, model.card.preprocessing
    probabilities = predicted.probabilities[rows]
    if context is not None:
        probabilities = model.probabilities(predicted.images.subset(rows), context)
    pixels, classes = predicted.images.take(rows), model.order[labels]
    heats = compute_heatmaps(classifier, pixels, classes, preprocessing, settings.method, settings.target_layer)
    return [
        ExplanationMap(each.image, each.role, each.label, float(probability[each.label]), heat)
        for each, probability, heat in zip(requests, probabilities, heats, strict=True)
    ]


def _load_ingredients(
    model: ExplainedModel, path: Path, context: RunContext, settings: ExplainSettings
) -> Iterator[tuple[str, ExplainedModel]]:
    """Yield a soup's ingredients with the highest coefficients; logs a warning for missing files."""
    card = model.card
    parts = [part for part in card.soup.ingredients if part.coefficient] if card.soup is not None else []
    if len(parts) < 2:
        return
    index = IngredientIndex(path, context.run, settings)
    for part in sorted(parts, key=lambda part: (-part.coefficient, part.name))[: settings.ingredients]:
        try:
            ingredient = index.ingredients([part])[0]
        except DataError as error:
            logger.warning("maps of an ingredient are left out: %s", error.problem)
            continue
        classifier = build_with_weights(card.architecture, card.classes, ingredient.load(), part.name)
        yield part.name, replace(model, classifier=classifier.to(context.runtime.device))


def _write_files(
    model: ExplainedModel, predicted: PredictedImages, maps: Sequence[ExplanationMap], folder: Path, heading: str
) -> list[Path]:
    """Write everything but the faithfulness tables; returns sheet, page and table."""
    strips, sections, rows = [], [], []
    truth_column = any(each.role == "truth" for each in maps)
    for image in dict.fromkeys(each.image for each in maps):
        own, path = [each for each in maps if each.image == image], predicted.images.paths[image.row]
        overlays = [overlay(predicted.images[image.row], each.heat) for each in own]
        panels, cards = _panels_and_cards(model.space, predicted, own, overlays)
        if truth_column and all(each.role != "truth" for each in own):
            panels.insert(2, None)  # Keeps the maps of an ingredient in one column.
        names = (shorten(name, _LONGEST) for name in (path.parent.name, path.stem))
        strips.append(SheetRow("\n".join((image.why, *names)), panels))
        probabilities = predicted.probabilities[image.row]
        top = np.argsort(-probabilities, kind="stable")[:3]
        predictions = ", ".join(f"{model.space.names[label]} {100 * probabilities[label]:.1f}%" for label in top)
        sections.append(Section(f"{image.why}: {path.name}", cards, f"Predictions: {predictions}"))
        rows += [_write_map(model, predicted, *parts, folder) for parts in zip(own, overlays, strict=True)]
    sheet, page, table = folder / "sheet.png", folder / "page.html", folder / "maps.csv"
    draw_sheet(strips, sheet, heading)
    write_page(page, heading, _INTRO, sections)
    write_table(table, pd.DataFrame(rows))
    return [sheet, page, table]


def _panels_and_cards(
    space: LabelSpace, predicted: PredictedImages, maps: Sequence[ExplanationMap], overlays: Sequence[np.ndarray]
) -> tuple[list[Tile | None], list[ImageCard]]:
    """Return the sheet's panels and the page's pictures of one image: the image itself, then its maps."""
    row = maps[0].image.row
    label, pixels, path = int(predicted.labels[row]), predicted.images[row], predicted.images.paths[row].as_posix()
    known = label >= 0
    truth = space.names[label] if known else ""
    enlarged = magnify(pixels, overlays[0].shape[0] // pixels.shape[0])
    above = f"the image, truly\n{shorten(truth, _LONGEST)}" if known else "the image"
    panels: list[Tile | None] = [Tile(enlarged, above, colour_above=GREEN if known else BLACK)]
    cards = [ImageCard(path, enlarged, first=f"is {truth}" if known else "")]
    for each, picture in zip(maps, overlays, strict=True):
        role, name, right = _ROLES.get(each.role, each.role), space.names[each.label], each.label == label
        percent = f"{100 * each.probability:.0f}%"
        above = f"{shorten(role, _LONGEST)}\n{shorten(name, _LONGEST)}, {percent}"
        colour = GREEN if right else VERMILION if known else BLACK
        panels.append(Tile(picture, above, colour_above=colour))
        cards.append(ImageCard(role, picture, **{"first" if right else "second": f"for {name}, {percent}"}))
    return panels, cards


def _write_map(
    model: ExplainedModel, predicted: PredictedImages, explanation: ExplanationMap, picture: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Write a map and its overlay; returns its row of the table."""
    stem = f"{explanation.image.name}_{explanation.role}"
    write_array(folder / f"{stem}.npy", explanation.heat)
    with atomic_write(folder / f"{stem}.png") as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    row, names = explanation.image.row, model.space.names
    path, label = predicted.images.paths[row], int(predicted.labels[row])
    height, width = decode(path).shape[:2]
    box = visible_box(width, height, evaluation_geometry(model.card.preprocessing))
    return {
        "map": f"{stem}.npy",
        "overlay": f"{stem}.png",
        "image": path.as_posix(),
        "why": explanation.image.why,
        "role": explanation.role,
        "class": names[explanation.label],
        "probability": round(explanation.probability, 6),
        "truth": names[label] if label >= 0 else "",
        "predicted": names[int(predicted.predictions[row])],
        **dict(zip(("left", "top", "right", "bottom"), (round(each, 3) for each in box), strict=True)),
    }
