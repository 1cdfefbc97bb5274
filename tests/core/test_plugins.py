"""An installed plugin: one file and one registration for each kind of thing, used from the command line."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file

from soups.core import plugins
from soups.core.errors import EnvironmentFailure, UsageError

ROOT = Path(__file__).parents[2]

FILES = {
    "recipe": """
from soups.recipes.registry import RECIPES, Recipe
from soups.recipes.shared.pool import Soup

def first_by_name(pool, judge, *, on_decision=None, place: int = 0):
    \"The ingredient at a place in the order of the names.\"
    one = sorted(pool.ingredients, key=lambda each: each.name)[place]
    state = {name: tensor.clone() for name, tensor in one.load().items()}
    return Soup("toy_first", state, (one,), (1.0,), judge(state).score, options={"place": place})

def remake(ingredients, coefficients, options):
    return dict(ingredients[0].load())

def register():
    RECIPES["toy_first"] = Recipe(first_by_name, remake=remake)
""",
    "loss": """
from soups.training.losses import LOSSES

def squared(logits, labels, features, options):
    import torch
    return (logits.softmax(1) - torch.eye(logits.shape[1])[labels]).square().mean()

def register():
    LOSSES["ToySquared"] = squared
""",
    "metric": """
from soups.core.metrics import METRICS, Metric

def worst_recall(probabilities, labels):
    right = probabilities.argmax(axis=1) == labels
    return min(float(right[labels == each].mean()) for each in set(labels.tolist()))

def register():
    METRICS["toy_worst_recall"] = Metric("toy_worst_recall", worst_recall, True)
""",
    "rule": """
from soups.ensembles import RULES, VotingRule

def largest(probabilities, weights, space):
    highest = probabilities.max(axis=0).astype(float)
    return highest / highest.sum(axis=1, keepdims=True)

def register():
    RULES["toy_largest"] = VotingRule(largest, "the largest probability of each class")
""",
    "layout": """
from soups.data.layouts.folders import as_table
from soups.data.layouts.layouts import LAYOUTS

def by_name(settings):
    root = settings.root
    rows = [(path.relative_to(root).as_posix(), path.name.split("-")[1], path.name.split("-")[2],
             "test" if path.name.startswith("test") else "") for path in root.glob("*.png")]
    return as_table(rows)

def register():
    LAYOUTS["toy_by_name"] = by_name
""",
    "family": """
from soups.checkpoints.card import Architecture
from soups.core.preprocessing import Preprocessing
from soups.models import heads
from soups.models.build import BUILDERS, Family
from soups.models.start import Start

def describe(settings):
    half = (0.5, 0.5, 0.5)
    return Architecture(family="toy", name=settings.model), Preprocessing(size=16, mean=half, std=half)

def empty(architecture):
    from torch import nn
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), 12

def start(settings, classes, seed):
    from soups.models.classifier import Classifier
    architecture, preprocessing = describe(settings)
    head = heads.random_head(12, len(classes), seed)
    return Start(Classifier(empty(architecture)[0], head, False).eval(), architecture, preprocessing)

def register():
    BUILDERS["toy"] = Family(start, describe, empty, False, lambda name: name == "toy-pool")
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with the plugin and its entry points, as pip lays them out."""
    folder = tmp_path_factory.mktemp("plugin")
    package, information = folder / "toy_plugin", folder / "toy_plugin-1.0.dist-info"
    package.mkdir()
    information.mkdir()
    for name, text in FILES.items():
        (package / f"{name}.py").write_text(text)
    points = "".join(f"{name} = toy_plugin.{name}:register\n" for name in FILES)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[soups.plugins]\n{points}")
    return folder


@pytest.fixture(scope="module")
def images(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy images in one folder, `train-red-p0-1.png` and `test-red-p4-1.png`."""
    folder = tmp_path_factory.mktemp("flat")
    for path in toy_data.glob("t*/*/*.png"):
        split, label, (person, number) = path.parts[-3], path.parts[-2], path.stem.split("_")
        (folder / f"{split}-{label}-{person}-{number}.png").write_bytes(path.read_bytes())
    return folder


def test_each_kind_is_used_from_the_command_line(installed: Path, images: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"}

    def run(*words: str) -> str:
        command = [sys.executable, str(ROOT / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run(
        *("finetune.py", "--name", "toys", "--data-location", str(images), "--layout", "toy_by_name"),
        *("--val-ratio", "0.5", "--model", "toy-pool", "--loss-fn", "ToySquared", "--metric", "toy_worst_recall"),
        *("--i", "0-1", "--jobs", "2", "--threads", "1", "--precision", "fp32", "--epochs", "1", "--lr", "0.01"),
    )
    models = tmp_path / "runs" / "toys" / "models"
    output = run("main.py", "--soup", "toy_first", "--soup-options", "place=1", "--report")
    assert "toy_first soup" in output and "toy_first" in run("main.py", "--list-recipes")
    soup, one = (load_file(models / f"{name}.safetensors") for name in ("toys_toy_first_soup", "toys1_epochs1"))
    assert all((soup[key] == one[key]).all() for key in one)
    assert "identical" in run("main.py", "--rebuild", "toys_toy_first_soup")
    run("inference.py", "--vote", "toy_largest")
    assert (tmp_path / "runs" / "toys" / "output" / "toy_largest_voting.csv").is_file()


def test_a_plugin_that_fails_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> object:
        raise ImportError("No module named 'gone'")

    point = SimpleNamespace(name="broken", value="gone:register", load=load)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    plugins.load_plugins.cache_clear()
    words = "plugin broken (gone:register): ImportError: No module named 'gone'"
    with pytest.raises(EnvironmentFailure) as raised:
        plugins.load_plugins()
    assert str(raised.value).startswith(words) and "update or uninstall the package" in str(raised.value)
    point.load = lambda: lambda: (_ for _ in ()).throw(UsageError("its own message"))
    with pytest.raises(UsageError, match="its own message"):
        plugins.load_plugins()
    plugins.load_plugins.cache_clear()
    monkeypatch.setattr(plugins, "entry_points", importlib.metadata.entry_points)
    assert plugins.load_plugins() == plugins.load_plugins()
