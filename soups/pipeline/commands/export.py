"""The command `export`: writes a model as a file that runs without this package, verified before it is written."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soups.checkpoints.card import Card, card_text
from soups.cli.flags import ParsedSettings
from soups.core.errors import DataError, UsageError, one_line
from soups.core.preprocessing import normalise
from soups.core.sampling import evenly_spaced
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


def export(parsed: ParsedSettings[ExportSettings]) -> None:
    """Write the exported files; prints their paths.

    Raises:
        UsageError: The model does not exist, the file ending is wrong, or there are no images to verify on.
        DataError: The model cannot be exported, or the file gives different logits; nothing is written then.
        EnvironmentFailure: A package is missing, or the file cannot be written.
    """
    settings = parsed.settings
    kinds = list(EXPORTERS) if settings.format == "both" else [settings.format]
    for kind in kinds:
        require_packages(kind)
    path, run = select_model(settings, parsed.names, settings.model_name)
    outputs = _output_paths(settings, kinds, path, run)
    files = _images_to_compare(settings, run)
    classifier, card = load_selected(path, run)
    inputs = _load_inputs(files, card)
    preprocessing = compact_json(card.preprocessing.model_dump(mode="json"))
    metadata = {"classes": compact_json(card.classes), "preprocessing": preprocessing, "card": card_text(card)}
    with ExitStack() as stack:  # Writes all files or none.
        for kind, output in outputs.items():
            temporary = stack.enter_context(atomic_write(output))
            _write_file(kind, classifier, card, temporary, metadata, path)
            _verify_logits(kind, classifier, inputs, temporary, settings.tolerance, path)
    for output in outputs.values():
        print(output)


def _output_paths(settings: ExportSettings, kinds: Sequence[str], model: Path, run: Run | None) -> dict[str, Path]:
    if settings.output is None:
        if run is None:
            raise UsageError("--output is missing", expected="the file to write, because the model belongs to no run")
        return {kind: run.folder / "output" / f"{model.stem}{EXPORTERS[kind].suffix}" for kind in kinds}
    output, expected = Path(settings.output), EXPORTERS[kinds[0]].suffix
    known = {exporter.suffix for exporter in EXPORTERS.values()}
    if len(kinds) == 1 and output.suffix in known - {expected}:
        problem = f"--output {output}: not an ending of --format {kinds[0]}"
        raise UsageError(problem, expected=expected, found=output.suffix)
    stem = output.stem if output.suffix in known else output.name
    return {kind: output.with_name(f"{stem}{EXPORTERS[kind].suffix}") for kind in kinds}


def _images_to_compare(settings: ExportSettings, run: Run | None) -> list[Path]:
    """Return up to `CHECKED_IMAGES` evenly spaced images to verify the export on."""
    paths: list[Path] = []
    if settings.images is not None:
        for location in map(Path, settings.images):
            inside = sorted(path for path in location.rglob("*") if path.is_file() and not path.name.startswith("."))
            paths += inside if location.is_dir() else [location]
    elif run is not None:
        splits = run.samples["split"]
        first = next((name for name in ("val", "test") if name in set(splits)), None)
        paths += image_paths(run.samples if first is None else run.samples[splits == first], run)
    if not paths:
        raise UsageError(
            "--images: no images to compare the exported file on",
            expected="images, or a folder of images, because the model belongs to no run",
            next_step="add --images DIR",
        )
    return [paths[index] for index in evenly_spaced(len(paths), CHECKED_IMAGES)]


def _load_inputs(files: Sequence[Path], card: Card) -> "torch.Tensor":
    """Return the model's inputs, (N, 3, S, S) float32, normalised."""
    import torch

    geometry = evaluation_geometry(card.preprocessing)
    pixels = np.stack([resize_and_crop(decode(file), geometry) for file in files])
    return normalise(torch.from_numpy(pixels), card.preprocessing)


def _write_file(
    kind: str, classifier: "torch.nn.Module", card: Card, temporary: Path, metadata: dict[str, str], model: Path
) -> None:
    try:
        EXPORTERS[kind].write(classifier, card.preprocessing.size, temporary, metadata)
    except OSError:
        raise
    except Exception as error:  # The exporters raise many kinds of exceptions.
        raise DataError(
            f"{model}: {card.architecture.name} cannot be exported by --format {kind}",
            found=one_line(error),
            next_step="try the other --format, or write a folder with scripts/push_to_hub.py",
        ) from error


def _verify_logits(
    kind: str, classifier: "torch.nn.Module", inputs: "torch.Tensor", temporary: Path, tolerance: float, model: Path
) -> None:
    """Compare logits for all images at once and for one image, which verifies that the batch size is dynamic.

    Raises:
        DataError: The logits differ by more than the tolerance.
    """
    import torch

    with torch.inference_mode():
        expected = classifier(inputs).numpy()
    batches = [inputs.numpy(), inputs[:1].numpy()]
    pairs = [(expected[: len(batch)], EXPORTERS[kind].run(temporary, batch)) for batch in batches]
    problem = f"{model}: the file of --format {kind} gives other logits than the model; it is not written"
    count = f"on {len(inputs)} images"
    figures = check_logits(pairs, tolerance, problem, f" {count}", "try the other --format, or raise --tolerance")
    logger.info("%s: largest difference of a logit %.2g %s (allowed: %.2g)", kind, figures[0], count, figures[1])


def check_logits(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    tolerance: float,
    problem: str,
    images: str = "",
    next_step: str = "",
) -> tuple[float, float]:
    """Compare expected with found logits; returns their largest difference and the one allowed.

    Args:
        pairs: expected and found logits, (N, C) each.
        tolerance: largest allowed difference, relative to the largest expected logit (at least 1).
        problem: the message if they differ.
        images: the images, for the message.
        next_step: for the message.

    Raises:
        DataError: the logits differ by more than the tolerance.
    """
    allowed = tolerance * max(1.0, *(float(np.abs(expected).max()) for expected, _ in pairs))
    largest = np.max([np.abs(found - own).max() if found.shape == own.shape else np.inf for own, found in pairs])
    if not largest <= allowed:
        expected_text = f"differences of at most {allowed:.2g}{images}"
        raise DataError(problem, expected=expected_text, found=f"{largest:.2g}", next_step=next_step)
    return float(largest), allowed
