"""Faithfulness of a model's saliency maps: deletion and insertion curves as tables (stdout, CSV) and a figure."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from soups.core.progress import track
from soups.core.statistics import bootstrap_interval
from soups.explain.faithfulness import Curves, area_under_curve, deletion_and_insertion
from soups.explain.methods import coarse_maps, model_inputs
from soups.explain.settings import MapSettings
from soups.files.atomic import write_table
from soups.pipeline.explain.images import ExplainedModel, PredictedImages
from soups.report.figures.overlays import draw_faithfulness_curves
from soups.report.tables import align_columns

_SEED = 0


def measure_curves(
    model: ExplainedModel, predicted: PredictedImages, rows: np.ndarray, labels: np.ndarray, settings: MapSettings
) -> Curves:
    """Return deletion and insertion curves of K images, computed one image at a time.

    Args:
        model: the model.
        predicted: the images.
        rows: (K,) row numbers of the measured images in `predicted`.
        labels: (K,) int64, the explained class of each image.
        settings: method, layer, number of steps and number of random maps.
    """
    curves = []
    for number, row in enumerate(track(rows, "measuring faithfulness")):
        pixels = predicted.images.take([int(row)])
        target = model.order[labels[number : number + 1]]
        inputs, classes = model_inputs(model.classifier, pixels, target, model.card.preprocessing)
        maps = coarse_maps(model.classifier, inputs, classes, settings.method, settings.target_layer)
        options = {"steps": settings.steps, "randoms": settings.random_maps, "seed": _SEED + number}
        curves.append(deletion_and_insertion(model.classifier, inputs, classes, maps, **options))
    kinds = [field.name for field in fields(Curves)]
    return Curves(*(np.concatenate([getattr(each, kind) for each in curves]) for kind in kinds))


def print_faithfulness(
    curves: Curves, predicted: PredictedImages, rows: np.ndarray, folder: Path, heading: str
) -> list[Path]:
    """Print the faithfulness table and write it, a line per image and the mean curves.

    Returns:
        The written files.
    """
    pairs = {
        "deletion": (curves.deletion, curves.random_deletion, -1),
        "insertion": (curves.insertion, curves.random_insertion, 1),
    }
    means, table_rows = [], []
    columns: dict[str, Any] = {"image": [predicted.images.paths[int(row)].as_posix() for row in rows]}
    cells = [["area under the curve", "map", "random maps", "better by", "95% interval"]]
    for kind, (model_curve, chance, sign) in pairs.items():
        areas, randoms = area_under_curve(model_curve), area_under_curve(chance).mean(axis=1)
        gains = sign * (areas - randoms)
        low, high = bootstrap_interval(gains, predicted.groups[rows])
        area, random, gain = (float(values.mean()) for values in (areas, randoms, gains))
        values = {"map": area, "random": random, "better_by": gain, "low": low, "high": high}
        table_rows.append({"curve": kind, **values, "images": len(rows)})
        cells.append([kind, f"{area:.3f}", f"{random:.3f}", f"{gain:+.3f}", f"{low:+.3f} … {high:+.3f}"])
        columns |= {kind: areas, f"{kind}_random": randoms}
        means.append((kind, model_curve.mean(axis=0), chance.mean(axis=(0, 1))))
    print(align_columns(cells))
    print(
        f"{len(rows)} images. Deletion: the probability of the class while the map's pixels go, the lower the better;\n"
        "insertion: while they come, the higher the better. The interval resamples groups of images."
    )
    files = [folder / name for name in ("faithfulness.csv", "faithfulness_images.csv", "faithfulness.png")]
    write_table(files[0], pd.DataFrame(table_rows).round(6))
    write_table(files[1], pd.DataFrame(columns).round(6))
    draw_faithfulness_curves(means, files[2], heading, np.linspace(0, 1, curves.deletion.shape[1]))
    return files
