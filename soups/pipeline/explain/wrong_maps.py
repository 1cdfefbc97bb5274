"""Saliency maps for the grid of wrong images: one for the predicted class and one for the true class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soups.core.errors import UsageError
from soups.data.images.cache import Images
from soups.explain.settings import AUTO, MapSettings, check_method
from soups.pipeline.explain.images import ExplainedModel
from soups.pipeline.score.context import RunContext
from soups.report.answers import LabelledPredictions
from soups.report.figures.overlays import overlay
from soups.report.figures.wrong_images import wrong_rows


def parse_method(explain: Sequence[str] | None) -> str | None:
    """Return the method given with `--explain`; None without the flag.

    Raises:
        UsageError: The method is unknown, or several are given.
    """
    if explain is None:
        return None
    if len(explain) > 1:
        raise UsageError("--explain: several methods", expected="one", found=", ".join(explain))
    method = explain[0] if explain else AUTO
    check_method(method)
    return method


def draw_wrong_maps(
    context: RunContext, path: Path, predictions: LabelledPredictions, images: Images, method: str, limit: int
) -> tuple[dict[int, list[np.ndarray]], str]:
    """Return overlays of the wrong images shown in the grid and a description of the overlays.

    Args:
        context: the run and its devices.
        path: the model's checkpoint.
        predictions: predictions and labels of the N images.
        images: the N images.
        method: the saliency method.
        limit: the maximum number of images.

    Returns:
        Row number → overlays, and their description for the figure's title.

    Raises:
        UsageError: The method does not support the model.
    """
    rows = wrong_rows(predictions)[:limit]
    if not len(rows):
        return {}, ""
    from soups.explain.methods import METHODS, explain, resolve_method

    model, pixels = ExplainedModel.load(context, path, predictions.space), images.take(rows)
    classifier, preprocessing = model.classifier, model.card.preprocessing
    method = resolve_method(classifier, pixels, preprocessing, MapSettings(method=method))
    labels_shown, description = [predictions.predictions], f"maps: {method} for the prediction"
    if METHODS[method].class_specific:
        labels_shown, description = [*labels_shown, predictions.labels], f"{description}, then for the truth"
    maps = [explain(classifier, pixels, model.order[labels[rows]], preprocessing, method) for labels in labels_shown]
    overlays = ([overlay(image, heat) for heat in heats] for image, *heats in zip(pixels, *maps, strict=True))
    return dict(zip(map(int, rows), overlays, strict=True)), description
