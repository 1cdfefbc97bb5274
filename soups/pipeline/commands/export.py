"""What `scripts/export.py` does: a model as a file that runs without its code, compared before it counts as written."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card, card_text
from soups.cli import flags as cli
from soups.core.errors import DataError, UsageError
from soups.core.preprocessing import normalise
from soups.data.images.decode import decode
from soups.data.images.geometry import evaluation_geometry, resize_and_crop
from soups.files.atomic import atomic_write, compact_json
from soups.models.exports import EXPORTERS, require_packages
from soups.pipeline.run.images import image_paths
from soups.pipeline.run.run import Run
from soups.pipeline.score.select_model import load_selected, select_model
from soups.pipeline.settings.delivery import ExportSettings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

CHECKED_IMAGES = 8


def export(given: cli.ParsedSettings[ExportSettings]) -> None:
    """Write the file or both; prints their paths.

    Raises:
        UsageError: no such model, a wrong ending, or no images to compare on.
        DataError: the model cannot be exported, or the file gives other logits; nothing is written then.
        EnvironmentFailure: a package is missing, or the file cannot be written.
    """
    settings = given.settings
    kinds = list(EXPORTERS) if settings.format == "both" else [settings.format]
    for kind in kinds:
        require_packages(kind)
    path, run = select_model(settings, given.names, settings.model_name)
    outputs = _outputs(settings, kinds, path, run)
    files = _images(settings, run)
    classifier, card = load_selected(path, run)
    inputs = _inputs(files, card)
    texts = _texts(card)
    with ExitStack() as stack:  # Either all files appear or none.
        for kind, output in outputs.items():
            temporary = stack.enter_context(atomic_write(output))
            _write(kind, classifier, card, temporary, texts, path)
            _check(kind, classifier, inputs, temporary, settings.tolerance, path)
    for output in outputs.values():
        print(output)


def _outputs(settings: ExportSettings, kinds: Sequence[str], model: Path, run: Run | None) -> dict[str, Path]:
    if settings.output is None:
        if run is None:
            raise UsageError("--output is missing", expected="the file to write, where the model belongs to no run")
        return {kind: run.folder / "output" / f"{model.stem}{EXPORTERS[kind].suffix}" for kind in kinds}
    output = Path(settings.output)
    known = {exporter.suffix for exporter in EXPORTERS.values()}
    if len(kinds) == 1 and output.suffix in known - {EXPORTERS[kinds[0]].suffix}:
        raise UsageError(
            f"--output {output}: not an ending of --format {kinds[0]}",
            expected=EXPORTERS[kinds[0]].suffix,
            found=output.suffix,
        )
    stem = output.name.removesuffix(output.suffix) if output.suffix in known else output.name
    return {kind: output.with_name(f"{stem}{EXPORTERS[kind].suffix}") for kind in kinds}


def _images(settings: ExportSettings, run: Run | None) -> list[Path]:
    """The files that the export is compared on, at most `CHECKED_IMAGES`, from all over what there is."""
    if settings.images is not None:
        found: list[Path] = []
        for name in settings.images:
            place = Path(name)
            inside = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
            found += inside if place.is_dir() else [place]
    elif run is not None:
        rows = run.samples
        for name in ("val", "test"):
            if name in set(rows["split"]):
                rows = rows[rows["split"] == name]
                break
        found = list(image_paths(rows, run))
    else:
        found = []
    if not found:
        raise UsageError(
            "--images: nothing to compare the exported file on",
            expected="images, or a folder of them, where the model belongs to no run",
            next_step="give some: --images DIR",
        )
    chosen = np.unique(np.linspace(0, len(found) - 1, CHECKED_IMAGES).round().astype(int))
    return [found[index] for index in chosen]


def _inputs(files: Sequence[Path], card: Card) -> "torch.Tensor":
    """(N, 3, S, S) float32, as the model expects images."""
    import torch

    geometry = evaluation_geometry(card.preprocessing)
    pixels = np.stack([resize_and_crop(decode(file), geometry) for file in files])
    return normalise(torch.from_numpy(pixels), card.preprocessing)


def _texts(card: Card) -> dict[str, str]:
    return {
        "classes": compact_json(card.classes),
        "preprocessing": compact_json(card.preprocessing.model_dump(mode="json")),
        "card": card_text(card),
    }


def _write(
    kind: str, classifier: "torch.nn.Module", card: Card, temporary: Path, texts: dict[str, str], model: Path
) -> None:
    try:
        EXPORTERS[kind].write(classifier, card.preprocessing.size, temporary, texts)
    except OSError:
        raise
    except Exception as error:  # Each of the exporters' many steps raises its own kind.
        found = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"{model}: {card.architecture.name} cannot be exported by --format {kind}",
            found=found,
            next_step="try the other format, or hand the model on with scripts/push_to_hub.py",
        ) from error


def _check(
    kind: str, classifier: "torch.nn.Module", inputs: "torch.Tensor", temporary: Path, tolerance: float, model: Path
) -> None:
    """Compare on all images at once and on the first alone, so that the number of images is free indeed."""
    import torch

    with torch.inference_mode():
        wanted = classifier(inputs).numpy()
    allowed = tolerance * max(1.0, float(np.abs(wanted).max()))
    largest = 0.0
    for count in (len(inputs), 1):
        logits = EXPORTERS[kind].run(temporary, inputs[:count].numpy())
        same = logits.shape == wanted[:count].shape
        largest = max(largest, float(np.abs(logits - wanted[:count]).max()) if same else np.inf)
    if not largest <= allowed:
        raise DataError(
            f"{model}: the file of --format {kind} gives other logits than the model; it is not written",
            expected=f"differences of at most {allowed:.2g} on {len(inputs)} images",
            found=f"{largest:.2g}",
            next_step="try the other format, or allow more with --tolerance",
        )
    logger.info(
        "%s: largest difference of a logit %.2g on %d images (allowed: %.2g)", kind, largest, len(inputs), allowed
    )
