"""The README against the repository: every flag that it names exists."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from soups.pipeline.settings.commands import FinetuneSettings, InferenceSettings, MainSettings, ValidationSettings
from soups.pipeline.settings.compare import CompareSettings
from soups.pipeline.settings.delivery import ExportSettings, PushSettings
from soups.pipeline.settings.search import SearchSettings
from soups.pipeline.settings.tools import (
    CurateSettings,
    DisagreementSettings,
    ExplainSettings,
    LabelErrorsSettings,
    ShowBatchSettings,
    StudySettings,
)
from tools.backbones.settings import BackboneSettings
from tools.demo_data.settings import BaseSettings, DigitsSettings, FacesSettings, GeneratedDigitsSettings
from tools.stress.settings import TortureSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS: dict[str, type[BaseModel]] = {
    "finetune.py": FinetuneSettings,
    "main.py": MainSettings,
    "inference.py": InferenceSettings,
    "validation.py": ValidationSettings,
    "scripts/study.py": StudySettings,
    "scripts/show_batch.py": ShowBatchSettings,
    "scripts/find_label_errors.py": LabelErrorsSettings,
    "scripts/disagreement.py": DisagreementSettings,
    "scripts/push_to_hub.py": PushSettings,
    "scripts/export.py": ExportSettings,
    "scripts/curate.py": CurateSettings,
    "scripts/explain.py": ExplainSettings,
    "scripts/compare.py": CompareSettings,
    "scripts/try_backbones.py": BackboneSettings,
    "scripts/make_generated_digits.py": GeneratedDigitsSettings,
    "scripts/search.py": SearchSettings,
    "scripts/torture.py": TortureSettings,
    "scripts/make_digits.py": DigitsSettings,
    "scripts/make_faces.py": FacesSettings,
    "scripts/make_base.py": BaseSettings,
}


def flags(settings: type[BaseModel]) -> set[str]:
    """Every flag of a command."""
    names: set[str] = {"help", "config", "debug"}
    for name, field in settings.model_fields.items():
        kind = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, BaseModel)
        names |= set(kind.model_fields) if nested else {name}  # type: ignore[union-attr]
    return {"--" + name.replace("_", "-") for name in names}


@pytest.mark.parametrize(
    "document",
    ["README.md", "training.sh", "examples/mask/run.sh", "examples/mask/two_models.sh", "examples/fake_or_real/run.sh"],
)
def test_commands_are_given_flags_that_they_have(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8").replace("\\\n", " ")
    names = "|".join(command.removesuffix(".py") for command in COMMANDS)
    found = re.findall(rf"python ({names})\.py([^\n#`→]*)", text)
    assert found
    for command, arguments in found:
        given = set(re.findall(r"--[a-z-]+", arguments))
        assert given <= flags(COMMANDS[f"{command}.py"]), (command, given)


def test_flags_in_the_text_exist() -> None:
    known = set().union(*(flags(settings) for settings in COMMANDS.values()))
    mentioned = set(re.findall(r"`(--[a-z-]+)", README))
    assert mentioned <= known
