"""`--rebuild`: soups from their cards and their ingredients' files, wherever these are, or what is in the way."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import main
import soups
from soups.checkpoints.average import make_soup_card
from soups.checkpoints.card import Architecture, Card, IngredientCard, SoupCard
from soups.checkpoints.checkpoint import write_checkpoint
from soups.core.preprocessing import Preprocessing
from soups.files.atomic import sha256_of
from soups.recipes.registry import RECIPES
from soups.recipes.shared.pool import Ingredient, Pool, Verdict

PrintedText = Callable[[], str]


def a_state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(30, 5, generator=generator), "steps": torch.tensor(seed)}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A start and three models that came from it, in a folder where there is no run."""
    monkeypatch.chdir(tmp_path)
    card = Card(
        kind="start",
        architecture=Architecture(family="timm", name="toy"),
        classes=("cat", "dog"),
        preprocessing=Preprocessing(size=4, mean=(0, 0, 0), std=(1, 1, 1)),
    )
    paths = [tmp_path / "pool" / name for name in ("p_start.safetensors", *(f"p{i}.safetensors" for i in range(3)))]
    start = write_checkpoint(paths[0], a_state(9), card)
    for index, path in enumerate(paths[1:]):
        own = {"kind": "fine-tune", "start": start, "training": {"index": index}}
        write_checkpoint(path, a_state(index), card.model_copy(update=own))
    return paths


def make(recipe: str, models: list[Path], path: Path, **options: object) -> bytes:
    """A soup's bytes, its file as the pipeline writes it."""
    states = {path: soups.checkpoints.checkpoint.read_state(path) for path in models}
    start, *parts = [Ingredient(p.stem, sha256_of(p), 0.5, 1.0, lambda p=p: states[p], True) for p in models]

    def judge(state: dict[str, torch.Tensor], accept: object = None) -> Verdict:
        return Verdict(float(state["w"].sum() < 0), 1, 2, True, 0.1)

    soup = RECIPES[recipe](Pool(tuple(parts), start), judge, **options)
    cards = tuple(
        IngredientCard(name=part.name, sha256=part.sha256, coefficient=share)
        for part, share in zip(soup.ingredients, soup.coefficients, strict=True)
    )
    ingredient = soups.checkpoints.card.read_card(models[1])
    assert ingredient is not None
    card = make_soup_card(ingredient, SoupCard(recipe=recipe, ingredients=cards, options=soup.options))
    write_checkpoint(path, soup.state, card)
    return path.read_bytes()


@pytest.mark.parametrize("recipe", ["uniform", "pruned", "wise_ft", "ties", "dare"])
def test_rebuild_gives_the_same_bytes_without_a_run(
    recipe: str, models: list[Path], tmp_path: Path, printed_text: PrintedText
) -> None:
    path = tmp_path / "pool" / "soup.safetensors"
    before = make(recipe, models, path)
    time = path.stat().st_mtime_ns
    assert main.main(["--rebuild", str(path)]) == 0
    assert f"{path}: identical (SHA-256 {sha256_of(path)})" in printed_text()
    assert path.read_bytes() == before and path.stat().st_mtime_ns == time
    assert {file.name for file in path.parent.iterdir()} == {file.name for file in [*models, path]}


@pytest.mark.parametrize("weights", [None, [2.0, 2.0, 2.0], [0.1, 0.2, 0.7], [3.0, -1.0, 0.5]])
def test_weighted_averages_are_rebuilt(
    weights: list[float] | None, models: list[Path], printed_text: PrintedText
) -> None:
    path = models[0].parent / "mean.safetensors"
    soups.average(models[1:], weights).save(path)
    assert main.main(["--rebuild", str(path)]) == 0
    assert "identical" in printed_text()


@pytest.mark.parametrize("damage", ["flipped", "short"])
def test_a_damaged_soup_is_rebuilt_and_its_old_bytes_are_kept(
    damage: str, models: list[Path], printed_text: PrintedText
) -> None:
    path = models[0].parent / "soup.safetensors"
    whole = make("ties", models, path)
    broken = whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:] if damage == "flipped" else whole[:-100]
    path.write_bytes(broken)
    assert main.main(["--rebuild", str(path)]) == 0
    assert "had other bytes; made again" in printed_text()
    assert path.read_bytes() == whole and path.with_name("soup.safetensors.old").read_bytes() == broken
    path.write_bytes(b"\xff" + whole[1:])
    assert main.main(["--rebuild", str(path)]) == 3
    assert "not a whole safetensors file" in printed_text()


def test_files_are_found_by_their_hashes(models: list[Path], tmp_path: Path, printed_text: PrintedText) -> None:
    path = tmp_path / "soups" / "soup.safetensors"
    make("wise_ft", models, path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number, model in enumerate(models):
        model.rename(elsewhere / f"renamed{number}.safetensors")
    assert main.main(["--rebuild", str(path)]) == 3
    message = printed_text()
    assert "ingredient p" in message and "is missing (and 2 more of its 3 ingredients)" in message
    assert "--model-location DIR" in message
    assert main.main(["--rebuild", str(path), "--model-location", str(elsewhere)]) == 0
    assert "identical" in printed_text()
    (tmp_path / "runs" / "other").mkdir(parents=True)
    elsewhere.rename(tmp_path / "runs" / "other" / "models")
    assert main.main(["--rebuild", str(path)]) == 0
    assert "identical" in printed_text()


def test_a_changed_ingredient_is_named_with_both_hashes(models: list[Path], printed_text: PrintedText) -> None:
    path = models[0].parent / "soup.safetensors"
    before, expected = make("uniform", models, path), sha256_of(models[2])
    content = bytearray(models[2].read_bytes())
    content[-1] ^= 1
    models[2].write_bytes(content)
    assert main.main(["--rebuild", str(path)]) == 3
    message = printed_text()
    assert f"{path}: ingredient p1 has changed" in message
    assert f"expected: a file with SHA-256 {expected}" in message
    assert f"found: {models[2]} with {sha256_of(models[2])}" in message
    assert path.read_bytes() == before


def test_the_start_can_be_named(models: list[Path], tmp_path: Path, printed_text: PrintedText) -> None:
    path = models[0].parent / "soup.safetensors"
    make("task_arithmetic", models, path)
    start = models[0].rename(tmp_path / "begin.safetensors")
    assert main.main(["--rebuild", str(path)]) == 3
    assert "its start is missing" in printed_text()
    assert main.main(["--rebuild", str(path), "--start", str(models[1])]) == 3
    assert f"--start {models[1]}: not the start that {path} was made with" in printed_text()
    assert main.main(["--rebuild", str(path), "--start", str(start)]) == 0
    assert "identical" in printed_text()


def test_several_names_one_of_which_is_no_soup(models: list[Path], printed_text: PrintedText) -> None:
    path = models[0].parent / "soup.safetensors"
    make("uniform", models, path)
    assert main.main(["--rebuild", str(models[1])]) == 3
    assert f"{models[1]}: not a soup" in printed_text()
    assert main.main(["--rebuild", str(models[1]), str(path)]) == 5
    message = printed_text()
    assert "identical" in message and "1 of 2 soups could not be made again" in message
    assert main.main(["--rebuild", "nothing"]) == 2
    assert "no run yet" in printed_text()
