"""The command `explain`: saliency maps of a model as files, a sheet, a page and a faithfulness table."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Card
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, unknown_name
from soups.core.labels import LabelSpace
from soups.core.sampling import evenly_spaced
from soups.core.scores import softmax
from soups.data.images.decode import decode
from soups.data.images.geometry import evaluation_geometry, visible_box
from soups.evaluation.logits import compute_logits
from soups.explain.methods import METHODS, describe_layers, resolve_method
from soups.explain.methods import explain as explained
from soups.explain.settings import MapSettings, check_method
from soups.files.atomic import atomic_write, write_array, write_table
from soups.pipeline.commands.validate import open_context_of_model
from soups.pipeline.explain.faithfulness import measure_curves, print_faithfulness
from soups.pipeline.explain.images import (
    ExplainedImage,
    PredictedImages,
    images_of_files,
    images_of_set,
    select_all,
    select_informative,
)
from soups.pipeline.run.model_files import load_model, run_folder_of
from soups.pipeline.run.run import existing_run
from soups.pipeline.score.context import RunContext, class_positions
from soups.pipeline.settings.tools import ExplainSettings
from soups.pipeline.soup.ingredient_index import IngredientIndex
from soups.report.figures.grid import Tile
from soups.report.figures.overlays import SheetRow, draw_sheet, magnify, overlay
from soups.report.figures.style import BLACK, GREEN, VERMILION, shorten
from soups.report.html.pages import ImageCard as Picture
from soups.report.html.pages import Section, write_page
from soups.runtime.devices import limit_threads

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

logger = logging.getLogger(__name__)

_LONGEST = 22
_ROLES = {"predicted": "for the prediction", "truth": "for the truth", "asked": "for the class"}


@dataclass(frozen=True)
class ExplainedModel:
    """A model to explain, with the mapping of its classes."""

    path: Path
    classifier: "Classifier"
    card: Card
    space: LabelSpace
    order: np.ndarray
    """(C,) int64, the index of each class of `space` among the logits."""


@dataclass(frozen=True)
class ExplanationMap:
    """A saliency map of one image."""

    image: ExplainedImage
    role: str
    """`predicted`, `truth`, `asked` (`--class-name`), or the name of an ingredient."""
    label: int
    """The explained class."""
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
    limit_threads(context.runtime.threads)
    classifier, card = load_model(context.run, path)
    space = context.space_of(path)
    if settings.class_name is not None and settings.class_name not in space.names:
        raise unknown_name("class", settings.class_name, space.names)
    classifier.to(context.runtime.device)
    model = ExplainedModel(path, classifier, card, space, class_positions(card, space, path, context.run.name))
    if settings.images:
        predicted = images_of_files(context, path, settings.images, space, (classifier, card))
        selected = select_all(predicted)
    else:
        predicted = images_of_set(context, path, settings.on, space)
        selected = select_informative(predicted, settings.count)
    pixels = predicted.images.take([image.row for image in selected])
    map_settings = settings.maps.model_copy(
        update={"method": resolve_method(classifier, pixels, card.preprocessing, settings.maps)}
    )
    read = describe_layers(classifier, pixels, card.preprocessing, map_settings.method, map_settings.target_layer)
    model_maps = _compute_maps(model, predicted, selected, settings.class_name, map_settings)
    maps = list(model_maps)
    for name, ingredient in _load_ingredients(model, context, settings):
        maps += _compute_ingredient_maps(name, ingredient, model_maps, predicted, context, map_settings)
    folder = Path(settings.output or context.run.folder / "output" / "explain" / f"{path.stem}_{map_settings.method}")
    heading = f"{path.stem}: {map_settings.method} of {predicted.description}, from {read}"
    files = _write_files(model, predicted, selected, maps, folder, heading)
    if map_settings.faithfulness:
        rows = evenly_spaced(len(predicted.labels), map_settings.faithfulness)
        class_index = None if settings.class_name is None else space.names.index(settings.class_name)
        labels = predicted.predictions[rows] if class_index is None else np.full(len(rows), class_index)
        curves = measure_curves(classifier, card, predicted, rows, model.order[labels], map_settings)
        print(heading)
        files += print_faithfulness(curves, predicted, rows, folder, heading)
    for file in files:
        print(file)


def _compute_maps(
    model: ExplainedModel,
    predicted: PredictedImages,
    selected: Sequence[ExplainedImage],
    class_name: str | None,
    map_settings: MapSettings,
) -> list[ExplanationMap]:
    """Return the maps of each image for the requested class, else for the predicted and the true class."""
    requests: list[tuple[ExplainedImage, str, int]] = []
    for image in selected:
        predicted_label, truth = int(predicted.predictions[image.row]), int(predicted.labels[image.row])
        if class_name is not None:
            requests.append((image, "asked", model.space.names.index(class_name)))
            continue
        requests.append((image, "predicted", predicted_label))
        if truth not in (-1, predicted_label) and METHODS[map_settings.method].class_specific:
            requests.append((image, "truth", truth))
    labels = np.array([label for _, _, label in requests])
    heats = _compute_heatmaps(model, predicted, [image for image, _, _ in requests], labels, map_settings)
    return [
        ExplanationMap(image, role, label, float(predicted.probabilities[image.row, label]), heat)
        for (image, role, label), heat in zip(requests, heats, strict=True)
    ]


def _compute_heatmaps(
    model: ExplainedModel,
    predicted: PredictedImages,
    selected: Sequence[ExplainedImage],
    labels: np.ndarray,
    map_settings: MapSettings,
) -> np.ndarray:
    pixels, preprocessing = predicted.images.take([image.row for image in selected]), model.card.preprocessing
    method, layer = map_settings.method, map_settings.target_layer
    return explained(model.classifier, pixels, model.order[labels], preprocessing, method, layer)


def _load_ingredients(
    model: ExplainedModel, context: RunContext, settings: ExplainSettings
) -> Iterator[tuple[str, ExplainedModel]]:
    """Yield a soup's ingredients with the highest coefficients; logs a warning for missing files."""
    from soups.models.build import build_with_weights

    card = model.card
    parts = [part for part in card.soup.ingredients if part.coefficient] if card.soup is not None else []
    if len(parts) < 2:
        return
    folder = run_folder_of(model.path)
    run_settings = settings.run.model_copy(update={"runs_folder": str(folder.parent)}) if folder else settings.run
    run = existing_run(run_settings, folder.name) if folder else context.run
    index = IngredientIndex(model.path, run, settings)
    for part in sorted(parts, key=lambda part: (-part.coefficient, part.name))[: settings.ingredients]:
        try:
            ingredient = index.ingredients([part])[0]
        except DataError as error:
            logger.warning("maps of an ingredient are left out: %s", error.problem)
            continue
        classifier = build_with_weights(card.architecture, card.classes, ingredient.load(), part.name)
        classifier.to(context.runtime.device)
        yield part.name, replace(model, classifier=classifier)


def _compute_ingredient_maps(
    name: str,
    model: ExplainedModel,
    model_maps: Sequence[ExplanationMap],
    predicted: PredictedImages,
    context: RunContext,
    map_settings: MapSettings,
) -> list[ExplanationMap]:
    """Return an ingredient's maps for the class of the soup's first map of each image."""
    maps = [explanation for explanation in model_maps if explanation.role != "truth"]
    selected = [explanation.image for explanation in maps]
    labels = np.array([explanation.label for explanation in maps])
    images, batch = predicted.images.subset([image.row for image in selected]), context.evaluation.eval_batch_size
    logits = compute_logits(model.classifier, images, model.card.preprocessing, context.runtime, batch)
    class_probabilities = softmax(logits[:, model.order])[np.arange(len(selected)), labels]
    heats = _compute_heatmaps(model, predicted, selected, labels, map_settings)
    parts = zip(selected, labels, class_probabilities, heats, strict=True)
    return [
        ExplanationMap(image, name, int(label), float(probability), heat) for image, label, probability, heat in parts
    ]


def _write_files(
    model: ExplainedModel,
    predicted: PredictedImages,
    selected: Sequence[ExplainedImage],
    maps: Sequence[ExplanationMap],
    folder: Path,
    heading: str,
) -> list[Path]:
    """Write everything but the faithfulness tables; returns sheet, page and table."""
    import pandas as pd

    strips, sections, rows = [], [], []
    for image in selected:
        model_maps = [explanation for explanation in maps if explanation.image == image]
        pixels, path = predicted.images[image.row], predicted.images.paths[image.row]
        overlays = [overlay(pixels, explanation.heat) for explanation in model_maps]
        panels, pictures = _panels_and_pictures(model.space, predicted, image, model_maps, overlays)
        names = (shorten(name, _LONGEST) for name in (path.parent.name, path.stem))
        strips.append(SheetRow("\n".join((image.why, *names)), panels))
        sections.append(Section(f"{image.why}: {path.name}", pictures, _top_predictions_text(model, predicted, image)))
        for explanation, picture in zip(model_maps, overlays, strict=True):
            rows.append(_write_map(model, predicted, explanation, picture, folder))
    strips = [replace(strip, panels=_drop_empty_truth_column(strip.panels, strips)) for strip in strips]
    sheet, page, table = folder / "sheet.png", folder / "page.html", folder / "maps.csv"
    draw_sheet(strips, sheet, heading)
    intro = [
        "Bright: evidence for the class, scaled from minimum to maximum in each map. Grey: the image as the model sees "
        "it. A dark map: the method found no evidence for the class.",
        "A map shows which pixels the prediction depends on, not whether it is right. The faithfulness table shows how "
        "far to trust the method here.",
    ]
    write_page(page, heading, intro, sections)
    write_table(table, pd.DataFrame(rows))
    return [sheet, page, table]


def _panels_and_pictures(
    space: LabelSpace,
    predicted: PredictedImages,
    image: ExplainedImage,
    model_maps: Sequence[ExplanationMap],
    overlays: Sequence[np.ndarray],
) -> tuple[list[Tile | None], list[Picture]]:
    """Return the sheet's panels and the page's pictures of one image."""
    row = image.row
    label, path, pixels = int(predicted.labels[row]), predicted.images.paths[row], predicted.images[row]
    known = label >= 0
    truth = space.names[label] if known else ""
    enlarged = magnify(pixels, overlays[0].shape[0] // pixels.shape[0])
    caption_of_image = f"the image, truly\n{shorten(truth, _LONGEST)}" if known else "the image"
    panels: list[Tile | None] = [Tile(enlarged, caption_of_image, colour_above=GREEN if known else BLACK)]
    pictures = [Picture(path.as_posix(), enlarged, first=f"is {truth}" if known else "")]
    for explanation, picture in zip(model_maps, overlays, strict=True):
        name, right = space.names[explanation.label], explanation.label == label
        colour = GREEN if right else VERMILION if known else BLACK
        role_text = f"{_ROLES.get(explanation.role, shorten(explanation.role, _LONGEST))}\n"
        share = f"{100 * explanation.probability:.0f}%"
        panels.append(Tile(picture, f"{role_text}{shorten(name, _LONGEST)}, {share}", colour_above=colour))
        caption = {"first" if right else "second": f"for {name}, {share}"}
        pictures.append(Picture(_ROLES.get(explanation.role, explanation.role), picture, **caption))
    if all(explanation.role != "truth" for explanation in model_maps):
        panels.insert(2, None)  # Keeps the maps of an ingredient in one column.
    return panels, pictures


def _drop_empty_truth_column(panels: Sequence[Tile | None], strips: Sequence[SheetRow]) -> list[Tile | None]:
    """Return the panels without the true-class column if it is empty in all rows."""
    if any(len(strip.panels) > 2 and strip.panels[2] is not None for strip in strips):
        return list(panels)
    return [*panels[:2], *panels[3:]]


def _top_predictions_text(model: ExplainedModel, predicted: PredictedImages, image: ExplainedImage) -> str:
    order = np.argsort(-predicted.probabilities[image.row], kind="stable")[:3]
    return "Predictions: " + ", ".join(
        f"{model.space.names[label]} {100 * predicted.probabilities[image.row, label]:.1f}%" for label in order
    )


def _write_map(
    model: ExplainedModel, predicted: PredictedImages, explanation: ExplanationMap, picture: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Write a map and its overlay; returns its row of the table."""
    from PIL import Image

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
