"""What `scripts/explain.py` does: maps of what a model looks at, as files, a sheet and a page, and how faithful."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Card
from soups.cli import flags as cli
from soups.core.errors import DataError, unknown_name
from soups.core.labels import LabelSpace
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
    evenly_spaced_rows,
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
from soups.report.figures.overlays import Panel, Strip, draw_sheet, magnified, overlay
from soups.report.figures.style import BLACK, GREEN, VERMILION, shortened
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
    """A model that explains, and how its classes stand to the run's."""

    path: Path
    classifier: "Classifier"
    card: Card
    space: LabelSpace
    order: np.ndarray
    """(C,) int64: where each class of the space is among the logits."""


@dataclass(frozen=True)
class ExplanationMap:
    """A map of one case."""

    case: ExplainedImage
    role: str
    """Whose it is: `predicted`, `truth`, `asked` (a class that the user named), or an ingredient's name."""
    label: int
    """The class that is explained."""
    chance: float
    """Its probability by the model whose map it is."""
    heat: np.ndarray
    """(S, S) float32 in [0, 1]."""


def explain(given: cli.ParsedSettings[ExplainSettings]) -> None:
    """Write maps, overlays, sheet, page and tables; prints how faithful the maps are, and the paths.

    Raises:
        UsageError: an unknown method, class, set or layer, or a method that does not suit the model.
        DataError: images that are not there or cannot be read.
    """
    settings = given.settings
    check_method(settings.maps.method)
    context, path = open_context_of_model(given)
    limit_threads(context.runtime.threads)
    classifier, card = load_model(context.run, path)
    space = context.space_of(path)
    if settings.class_name is not None and settings.class_name not in space.names:
        raise unknown_name("class", settings.class_name, space.names)
    classifier.to(context.runtime.device)
    model = ExplainedModel(path, classifier, card, space, class_positions(card, space, path, context.run.name))
    if settings.images:
        shown = images_of_files(context, path, settings.images, space, (classifier, card))
        cases = select_all(shown)
    else:
        shown = images_of_set(context, path, settings.on, space)
        cases = select_informative(shown, settings.count)
    pixels = shown.images.take([case.row for case in cases])
    told = settings.maps.model_copy(
        update={"method": resolve_method(classifier, pixels, card.preprocessing, settings.maps)}
    )
    read = describe_layers(classifier, pixels, card.preprocessing, told.method, told.target_layer)
    own = _own_maps(model, shown, cases, settings.class_name, told)
    maps = list(own)
    for name, ingredient in _ingredients(model, context, settings):
        maps += _ingredient_maps(name, ingredient, own, shown, context, told)
    folder = Path(settings.output or context.run.folder / "output" / "explain" / f"{path.stem}_{told.method}")
    heading = f"{path.stem}: {told.method} of {shown.what}, from {read}"
    files = _write(model, shown, cases, maps, folder, heading)
    if told.faithfulness:
        rows = evenly_spaced_rows(shown, told.faithfulness)
        asked = None if settings.class_name is None else space.names.index(settings.class_name)
        labels = shown.predictions[rows] if asked is None else np.full(len(rows), asked)
        found = measure_curves(classifier, card, shown, rows, model.order[labels], told)
        print(heading)
        files += print_faithfulness(found, shown, rows, folder, heading)
    for file in files:
        print(file)


def _own_maps(
    model: ExplainedModel,
    shown: PredictedImages,
    cases: Sequence[ExplainedImage],
    class_name: str | None,
    told: MapSettings,
) -> list[ExplanationMap]:
    """Of each case for the class that was asked for, else for the predicted one and the true one."""
    wanted: list[tuple[ExplainedImage, str, int]] = []
    for case in cases:
        predicted, truth = int(shown.predictions[case.row]), int(shown.labels[case.row])
        if class_name is not None:
            wanted.append((case, "asked", model.space.names.index(class_name)))
            continue
        wanted.append((case, "predicted", predicted))
        if truth not in (-1, predicted) and METHODS[told.method].of_class:
            wanted.append((case, "truth", truth))
    labels = np.array([label for _, _, label in wanted])
    heats = _heats(model, shown, [case for case, _, _ in wanted], labels, told)
    return [
        ExplanationMap(case, role, label, float(shown.probabilities[case.row, label]), heat)
        for (case, role, label), heat in zip(wanted, heats, strict=True)
    ]


def _heats(
    model: ExplainedModel,
    shown: PredictedImages,
    cases: Sequence[ExplainedImage],
    labels: np.ndarray,
    told: MapSettings,
) -> np.ndarray:
    pixels, preprocessing = shown.images.take([case.row for case in cases]), model.card.preprocessing
    return explained(model.classifier, pixels, model.order[labels], preprocessing, told.method, told.target_layer)


def _ingredients(
    model: ExplainedModel, context: RunContext, settings: ExplainSettings
) -> Iterator[tuple[str, ExplainedModel]]:
    """Those of a soup of several with the greatest coefficients, one after the other; missing files are told of."""
    from soups.models.build import build_with_weights

    card = model.card
    parts = [part for part in card.soup.ingredients if part.coefficient] if card.soup is not None else []
    if len(parts) < 2:
        return
    folder = run_folder_of(model.path)
    run_settings = settings.run.model_copy(update={"runs_folder": str(folder.parent)}) if folder else settings.run
    run = existing_run(run_settings, folder.name) if folder else context.run
    library = IngredientIndex(model.path, run, settings)
    for part in sorted(parts, key=lambda part: (-part.coefficient, part.name))[: settings.ingredients]:
        try:
            ingredient = library.ingredients([part])[0]
        except DataError as error:
            logger.warning("without the maps of an ingredient: %s", error.problem)
            continue
        classifier = build_with_weights(card.architecture, card.classes, ingredient.load(), part.name)
        classifier.to(context.runtime.device)
        yield part.name, replace(model, classifier=classifier)


def _ingredient_maps(
    name: str,
    model: ExplainedModel,
    own: Sequence[ExplanationMap],
    shown: PredictedImages,
    context: RunContext,
    told: MapSettings,
) -> list[ExplanationMap]:
    """An ingredient's maps for the class that the soup's first map of each case is of."""
    maps = [map for map in own if map.role != "truth"]
    cases, labels = [map.case for map in maps], np.array([map.label for map in maps])
    images, batch = shown.images.subset([case.row for case in cases]), context.evaluation.eval_batch_size
    logits = compute_logits(model.classifier, images, model.card.preprocessing, context.runtime, batch)
    chances = softmax(logits[:, model.order])[np.arange(len(cases)), labels]
    parts = zip(cases, labels, chances, _heats(model, shown, cases, labels, told), strict=True)
    return [ExplanationMap(case, name, int(label), float(chance), heat) for case, label, chance, heat in parts]


def _write(
    model: ExplainedModel,
    shown: PredictedImages,
    cases: Sequence[ExplainedImage],
    maps: Sequence[ExplanationMap],
    folder: Path,
    heading: str,
) -> list[Path]:
    """Write everything but the faithfulness; returns the files that are for people, and the table."""
    import pandas as pd

    strips, sections, rows = [], [], []
    for case in cases:
        own = [map for map in maps if map.case == case]
        image = shown.images[case.row]
        laid = [overlay(image, map.heat) for map in own]
        panels, pictures = _pictures_of(model.space, shown, case, own, laid)
        path = shown.images.paths[case.row]
        names = (shortened(name, _LONGEST) for name in (path.parent.name, path.stem))
        strips.append(Strip("\n".join((case.why, *names)), panels))
        sections.append(
            Section(f"{case.why}: {shown.images.paths[case.row].name}", pictures, _said(model, shown, case))
        )
        for map, picture in zip(own, laid, strict=True):
            rows.append(_write_map(model, shown, map, picture, folder))
    strips = [replace(strip, panels=_without(strip.panels, strips)) for strip in strips]
    sheet, page, table = folder / "sheet.png", folder / "page.html", folder / "maps.csv"
    draw_sheet(strips, sheet, heading)
    intro = [
        "Bright: evidence for the class, from the least to the most in each map; grey: the image as the model sees it. "
        "A map without any light: nothing that the method reads spoke for the class.",
        "A map says where the model looked, not whether it was right to; see the faithfulness table for how far to "
        "trust this method here.",
    ]
    write_page(page, heading, intro, sections)
    write_table(table, pd.DataFrame(rows))
    return [sheet, page, table]


def _pictures_of(
    space: LabelSpace,
    shown: PredictedImages,
    case: ExplainedImage,
    own: Sequence[ExplanationMap],
    laid: Sequence[np.ndarray],
) -> tuple[list[Panel | None], list[Picture]]:
    """Of one case: what the sheet shows, and what the page shows."""
    label, path, image = int(shown.labels[case.row]), shown.images.paths[case.row], shown.images[case.row]
    known = label >= 0
    truth = space.names[label] if known else ""
    large = magnified(image, laid[0].shape[0] // image.shape[0])
    head = f"the image, truly\n{shortened(truth, _LONGEST)}" if known else "the image"
    panels: list[Panel | None] = [Panel(large, head, GREEN if known else BLACK)]
    pictures = [Picture(path.as_posix(), large, first=f"is {truth}" if known else "")]
    for map, picture in zip(own, laid, strict=True):
        name, right = space.names[map.label], map.label == label
        colour = GREEN if right else VERMILION if known else BLACK
        words = f"{_ROLES.get(map.role, shortened(map.role, _LONGEST))}\n"
        panels.append(Panel(picture, f"{words}{shortened(name, _LONGEST)}, {100 * map.chance:.0f}%", colour))
        said = {"first" if right else "second": f"for {name}, {100 * map.chance:.0f}%"}
        pictures.append(Picture(_ROLES.get(map.role, map.role), picture, **said))
    if all(map.role != "truth" for map in own):
        panels.insert(2, None)  # So that an ingredient's maps stand in one column.
    return panels, pictures


def _without(panels: Sequence[Panel | None], strips: Sequence[Strip]) -> list[Panel | None]:
    """The panels without the column of the true classes, where that is empty in all rows."""
    if any(len(strip.panels) > 2 and strip.panels[2] is not None for strip in strips):
        return list(panels)
    return [*panels[:2], *panels[3:]]


def _said(model: ExplainedModel, shown: PredictedImages, case: ExplainedImage) -> str:
    order = np.argsort(-shown.probabilities[case.row], kind="stable")[:3]
    return "The model says " + ", ".join(
        f"{model.space.names[label]} {100 * shown.probabilities[case.row, label]:.1f}%" for label in order
    )


def _write_map(
    model: ExplainedModel, shown: PredictedImages, map: ExplanationMap, picture: np.ndarray, folder: Path
) -> dict[str, Any]:
    """Write a map and its overlay; returns its line of the table."""
    from PIL import Image

    stem = f"{map.case.name}_{map.role}"
    write_array(folder / f"{stem}.npy", map.heat)
    with atomic_write(folder / f"{stem}.png") as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    path, label, names = shown.images.paths[map.case.row], int(shown.labels[map.case.row]), model.space.names
    height, width = decode(path).shape[:2]
    box = visible_box(width, height, evaluation_geometry(model.card.preprocessing))
    return {
        "map": f"{stem}.npy",
        "overlay": f"{stem}.png",
        "image": path.as_posix(),
        "why": map.case.why,
        "role": map.role,
        "class": names[map.label],
        "probability": round(map.chance, 6),
        "truth": names[label] if label >= 0 else "",
        "predicted": names[int(shown.predictions[map.case.row])],
        **dict(zip(("left", "top", "right", "bottom"), (round(each, 3) for each in box), strict=True)),
    }
