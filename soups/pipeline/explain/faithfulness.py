"""How faithful a model's maps are, as a table, a picture and a line for each image."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soups.checkpoints.card import Card
from soups.core.progress import track
from soups.core.statistics import bootstrap_interval
from soups.explain.faithfulness import Curves, area_under_curve, deletion_and_insertion
from soups.explain.methods import coarse_maps, model_inputs
from soups.explain.settings import MapSettings
from soups.files.atomic import write_table
from soups.pipeline.explain.images import PredictedImages
from soups.report.comparison import align_columns
from soups.report.figures.overlays import draw_curves

if TYPE_CHECKING:
    from soups.models.classifier import Classifier

_SEED = 0


def measure_curves(
    classifier: "Classifier",
    card: Card,
    shown: PredictedImages,
    rows: np.ndarray,
    targets: np.ndarray,
    settings: MapSettings,
) -> Curves:
    """Deletion and insertion curves of some of the images, one image after the other.

    Args:
        classifier: the model.
        card: its card.
        shown: the images.
        rows: (N,) positions of those that are measured.
        targets: (N,) int64, the class of each that is explained, as a position among the model's logits.
        settings: method, layer, steps and random maps.
    """
    found: list[Curves] = []
    for number, row in enumerate(track(rows, "measuring faithfulness")):
        pixels = shown.images.take([int(row)])
        inputs, classes = model_inputs(classifier, pixels, targets[number : number + 1], card.preprocessing)
        maps = coarse_maps(classifier, inputs, classes, settings.method, settings.target_layer)
        seed = _SEED + number
        told = {"steps": settings.steps, "randoms": settings.random_maps, "seed": seed}
        found.append(deletion_and_insertion(classifier, inputs, classes, maps, **told))

    def joined(part: Callable[[Curves], np.ndarray]) -> np.ndarray:
        return np.concatenate([part(each) for each in found])

    return Curves(
        joined(lambda each: each.deletion),
        joined(lambda each: each.insertion),
        joined(lambda each: each.random_deletion),
        joined(lambda each: each.random_insertion),
    )


def print_faithfulness(
    found: Curves, shown: PredictedImages, rows: np.ndarray, folder: Path, heading: str
) -> list[Path]:
    """Print the table; write it, a line for each image, and the mean curves. Returns the files."""
    import pandas as pd

    pairs = {
        "deletion": (found.deletion, found.random_deletion, -1),
        "insertion": (found.insertion, found.random_insertion, 1),
    }
    lines: list[dict[str, Any]] = []
    images: dict[str, Any] = {"image": [shown.images.paths[int(row)].as_posix() for row in rows]}
    for kind, (own, chance, sign) in pairs.items():
        areas, randoms = area_under_curve(own), area_under_curve(chance).mean(axis=1)
        gains = sign * (areas - randoms)
        low, high = bootstrap_interval(gains, shown.groups[rows])
        values = (areas.mean(), randoms.mean(), gains.mean(), low, high)
        names = ("map", "random", "better_by", "low", "high")
        lines.append({"curve": kind, **dict(zip(names, map(float, values), strict=True)), "images": len(rows)})
        images |= {kind: areas, f"{kind}_random": randoms}
    cells = [["area under the curve", "map", "random maps", "better by", "95% interval"]]
    for line in lines:
        interval = f"{line['low']:+.3f} … {line['high']:+.3f}"
        cells.append(
            [line["curve"], f"{line['map']:.3f}", f"{line['random']:.3f}", f"{line['better_by']:+.3f}", interval]
        )
    print(align_columns(cells))
    print(
        f"{len(rows)} images. Deletion: the probability of the class while the map's pixels go, the lower the better;\n"
        "insertion: while they come, the higher the better. The interval resamples groups of images."
    )
    files = [folder / name for name in ("faithfulness.csv", "faithfulness_images.csv", "faithfulness.png")]
    write_table(files[0], pd.DataFrame(lines).round(6))
    write_table(files[1], pd.DataFrame(images).round(6))
    means = [(kind, own.mean(axis=0), chance.mean(axis=(0, 1))) for kind, (own, chance, _) in pairs.items()]
    draw_curves(means, files[2], heading, np.linspace(0, 1, found.deletion.shape[1]))
    return files
