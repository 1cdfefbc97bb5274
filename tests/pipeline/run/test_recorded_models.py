"""The settings of fine-tunes in a run's settings file: written once, replaced, and read as flags."""

from pathlib import Path

from soups.checkpoints.card import Card
from soups.cli.flags import parse
from soups.pipeline.run.recorded_models import record_missing_models, record_models
from soups.pipeline.run.run_settings import ForeignPool, RecordedSettings, read_recorded, record_run
from soups.pipeline.settings.commands import CommandSettings, FinetuneSettings, MainSettings
from tests.pipeline.small_run import CARD, make_run

ODD = {"class_weights": ["None=2", "a: b=1", "é #1=3", "no=1"], "augmentation": "{\n  'x': [1]\n}\n", "aug": None}


def card_of(index: int, **training: object) -> Card:
    """Returns the card of a fine-tune with some settings."""
    return CARD.model_copy(update={"kind": "fine-tune", "training": {"index": index, "epochs": 2, **training}})


def test_settings_of_models_are_added_in_order_and_replaced(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    path, before = run.folder / "settings.yaml", (run.folder / "settings.yaml").read_text()
    record_missing_models(run)
    assert [line.split(",")[0] for line in path.read_text().splitlines()[-3:]] == [
        "p0: {i: 0",
        "p1: {i: 1",
        "p10: {i: 10",
    ]
    record_models(run, [card_of(1, lr=1e-5)])
    assert path.read_text().startswith(before) and path.read_text().count("p1: ") == 1
    assert "p1: {i: 1, hparams: recorded, epochs: 2, lr: 1.0e-05}" in path.read_text()
    assert read_recorded(run.folder) == run.recorded
    time = path.stat().st_mtime_ns
    record_missing_models(run)
    assert path.stat().st_mtime_ns == time


def test_the_file_is_read_as_flags(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record_run(run.folder, run.recorded)
    record_models(run, [card_of(0, **ODD), card_of(1, cache_size=40, metric="log_loss", deterministic=True)])
    file = str(run.folder / "settings.yaml")
    odd, other = parse(FinetuneSettings, ["--config", file, "--epochs", "7"], {}).sections.values()
    assert odd.settings.training.model_dump(mode="json") == {
        **FinetuneSettings().training.model_dump(mode="json"),
        **ODD,
        "hparams": "recorded",
        "epochs": 7,
    }
    assert other.settings.cache.cache_size == 40 and other.settings.deterministic
    assert other.settings.evaluation.metric == "log_loss" and other.settings.training.epochs == 7
    one = parse(FinetuneSettings, ["--config", f"{file}#p1"], {})
    assert one.settings.i == "1" and one.settings.training.epochs == 2 and not one.sections
    assert parse(MainSettings, ["--config", file], {}).settings.runtime.threads == 1, (
        "other commands read the run alone"
    )


def test_every_key_is_a_setting_or_a_known_fact() -> None:
    facts = set(RecordedSettings.model_fields) | set(ForeignPool.model_fields)
    groups = (field.annotation for field in CommandSettings.model_fields.values())
    known = {name for group in groups for name in group.model_fields}  # type: ignore[union-attr]
    assert facts - known - {"data", "foreign", "model"} <= set(CommandSettings.FACTS)
