"""Training settings of each fine-tune, as sections of a run's `settings.yaml`, so that the file repeats the run.

The settings that belong to the run itself are in `run_settings`.
"""

import re
from collections.abc import Iterable
from typing import Any

from soups.checkpoints.card import Card
from soups.files.atomic import hold_lock, write_text
from soups.files.yaml_text import dump_section
from soups.pipeline.run.run import Run
from soups.pipeline.run.run_settings import FILE, MODELS_HEADING
from soups.training.hyperparameters import RECORDED
from soups.training.settings import TrainingSettings


def record_models(run: Run, cards: Iterable[Card]) -> None:
    """Write the settings of fine-tunes into the run's settings file, in the place of older ones with the same index."""
    path = run.folder / FILE
    with hold_lock(run.folder, FILE):
        head, _, tail = path.read_text(encoding="utf-8").partition(MODELS_HEADING)
        sections = {_index(block): block for block in re.split(r"(?m)^(?=\S)", tail) if block.strip()}
        for card in cards:
            name = run.model_name(card.training["index"])
            sections[card.training["index"]] = dump_section(name, _section(card))
        write_text(path, head + MODELS_HEADING + "".join(sections[index] for index in sorted(sections)))


def record_missing_models(run: Run) -> None:
    """Write the settings of fine-tunes that the settings file lacks: of older versions, or of killed processes."""
    text = (run.folder / FILE).read_text(encoding="utf-8")
    cards = [card for card in run.finetunes().values() if "index" in card.training]
    if missing := [card for card in cards if f"\n{run.model_name(card.training['index'])}: {{" not in text]:
        record_models(run, missing)


def _index(block: str) -> int:
    match = re.search(r"\bi: (\d+)", block)
    return int(match[1]) if match else -1


def _section(card: Card) -> dict[str, Any]:
    """Returns the flags of a fine-tune that its weights depend on, with drawn values."""
    training = card.training
    values = {key: training[key] for key in TrainingSettings.model_fields if key in training}
    others = {key: training[key] for key in ("cache_size", "metric", "deterministic") if training.get(key) is not None}
    return {"i": training["index"], "hparams": RECORDED, **values, **others}
