"""Models of a run: finds the file of a name and reads its weights, of own and of foreign checkpoints."""

from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from soups.checkpoints import torch_archive
from soups.checkpoints.card import Card, read_card
from soups.checkpoints.checkpoint import SUFFIX, read_state
from soups.core.errors import UsageError, did_you_mean
from soups.files.atomic import atomic_write, fingerprint
from soups.files.jsonl import read_records
from soups.files.tables import is_table
from soups.pipeline.run.foreign_pool import ENDINGS
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import FILE
from soups.pipeline.settings.commands import RunSettings

if TYPE_CHECKING:
    import torch

    from soups.models.classifier import Classifier
    from soups.models.foreign.state_dict import TranslatedState


READ_AS = "read_as"
"""Key of the line of `logs/foreign.jsonl` that says that half-precision weights are read as float32."""


def read_model(run: Run, path: Path) -> "dict[str, torch.Tensor]":
    """Returns the state dict of a model (`backbone.*`, `head.weight`, `head.bias`), memory-mapped where `is_mapped`.

    Raises:
        DataError: the file is damaged, or is not a checkpoint of the run's network.
    """
    if path.suffix == SUFFIX and read_card(path) is not None:
        return read_state(path)
    return read_translated(run, path).state


def is_mapped(run: Run | None, path: Path) -> bool:
    """Returns whether `read_model` gives a memory map of the file."""
    if run is not None and reads_as_float32(run):
        return False
    return path.suffix == SUFFIX or torch_archive.is_plain_archive(path)


def reads_as_float32(run: Run) -> bool:
    """Returns whether half-precision weights of a foreign pool are converted, because its files have several dtypes."""
    return any(READ_AS in line for line in read_records(run.folder / "logs" / "foreign.jsonl"))


def load_model(run: Run, path: Path) -> "tuple[Classifier, Card]":
    """Returns a model of the run (float32, on the CPU, in evaluation mode) and its card.

    Raises:
        DataError: as for `read_model`.
    """
    from soups.models.build import build_with_weights
    from soups.models.load import load_classifier

    if path.suffix == SUFFIX and read_card(path) is not None:
        return load_classifier(path, sha256=run.sha256(path))
    card = run.card_of(path)
    return build_with_weights(card.architecture, card.classes, read_model(run, path), str(path)), card


def read_translated(run: Run, path: Path) -> "TranslatedState":
    """Returns a checkpoint without a card, renamed to our tensor names, and notes on the changes.

    A whole CLIP model gets a zero-shot head from its own text tower for the run's classes and templates; the head
    is stored in the run's `heads`, so that it is computed once.

    Raises:
        DataError: the file is not a checkpoint of the run's network; the message names the tensors.
    """
    from safetensors.torch import load_file

    from soups.models.foreign.files import read_foreign_state
    from soups.models.foreign.state_dict import lacks_head, translate_state

    card, foreign = run.card_of(path), run.recorded.foreign
    state, network = read_foreign_state(path, ema=foreign is not None and foreign.ema), run.network
    head = None
    if foreign is not None and lacks_head(state, network, str(path)):
        key = fingerprint([card.classes, run.recorded.model.model, run.recorded.model.templates])
        place = run.folder / "heads" / f"{run.sha256(path)}-{key}{SUFFIX}"
        if not place.exists():
            _write_zero_shot_head(run, path, state, place)
        head = load_file(place)
    translated = translate_state(state, network, str(path), classes=card.classes, head=head)
    if not reads_as_float32(run):
        return translated
    converted = {key: each.float() if each.dtype.itemsize == 2 else each for key, each in translated.state.items()}
    return replace(translated, state=converted)


def _write_zero_shot_head(run: Run, path: Path, state: "dict[str, torch.Tensor]", place: Path) -> None:
    from safetensors.torch import save

    from soups.models.foreign.state_dict import select_clip_tensors
    from soups.models.open_clip.build import zero_shot_from_text_tower

    card = run.card_of(path)
    towers = select_clip_tensors(state, run.network, str(path))
    head = zero_shot_from_text_tower(run.recorded.model, towers, str(path), card.classes)
    with atomic_write(place) as temporary:
        temporary.write_bytes(save({key: tensor.contiguous() for key, tensor in head.state_dict().items()}))


def run_folder_of(path: Path) -> Path | None:
    """Returns the folder of the run whose models include a checkpoint; None if it is elsewhere."""
    models = path.resolve().parent
    return models.parent if models.name == "models" and (models.parent / FILE).exists() else None


def find_model(name: str, run: Run, settings: RunSettings) -> Path:
    """Returns the checkpoint that a word from the command line names.

    A path, a file name with any suffix or none, or a short name: `digits3` for `digits3_epochs22`, `photos-2_i3`. Names
    are searched for in --model-location, then in this run, then in all runs.

    Raises:
        UsageError: no file has the name, or two files have it.
    """
    if is_table(name):
        raise UsageError(
            f"{name}: a table of predictions, not a model",
            expected="a checkpoint, or the name of a model",
            next_step=f"tables are voted on, alone: python inference.py --hard-voting {name} OTHER.csv",
        )
    if Path(name).is_file():
        return Path(name)
    foreign = run.recorded.foreign
    location = foreign.foreign_location if foreign else settings.model_location
    everywhere = sorted(Path(settings.runs_folder).glob("*/models"))
    places = [[Path(location)] if location else [], [run.folder / "models"], everywhere]
    stem = name
    for ending in ENDINGS:
        stem = stem.removesuffix(ending)
    for folders in places:
        exact = [hit for folder in folders for ending in ENDINGS if (hit := folder / f"{stem}{ending}").is_file()]
        hits = exact or [hit for folder in folders for hit in _with_short_name(folder, stem)]
        if len(hits) > 1:
            listing = ", ".join(map(str, hits))
            raise UsageError(f"{name}: two models have this name", found=listing, next_step="use the path of one")
        if hits:
            return hits[0]
    known = [path.stem for path in [*(run.finetunes() if foreign else ()), *sorted(run.models.glob(f"*{SUFFIX}"))]]
    raise UsageError(
        f"{name}: no such model",
        expected=f"a path, or one of {', '.join(known) or '(the run has none yet)'}",
        next_step=did_you_mean(stem, known),
    )


def _with_short_name(folder: Path, name: str) -> list[Path]:
    files = sorted(folder.glob(f"{escape(name)}_epochs*"))
    return [
        path for path in files if path.name.endswith(ENDINGS) and path.name.removeprefix(f"{name}_epochs")[0].isdigit()
    ]
