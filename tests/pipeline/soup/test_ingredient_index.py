"""Files of a soup's ingredients: found by name or by hash, in the folders of the soup, its run and all runs."""

from pathlib import Path

import pytest

from soups.checkpoints.card import IngredientCard
from soups.core.errors import DataError
from soups.pipeline.run.run import Run
from soups.pipeline.settings.commands import CommandSettings, RunSettings
from soups.pipeline.soup.ingredient_index import IngredientIndex
from tests.pipeline.small_run import make_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return make_run(tmp_path / "runs")


def index_of(run: Run, location: Path | None = None) -> IngredientIndex:
    folders = RunSettings(
        runs_folder=str(run.folder.parent), model_location=None if location is None else str(location)
    )
    return IngredientIndex(run.models.parent / "soup.safetensors", None, CommandSettings(run=folders))


def part_of(run: Run, name: str) -> IngredientCard:
    return IngredientCard(name=name, sha256=run.sha256(run.models / f"{name}.safetensors"), coefficient=1)


def test_ingredients_are_found_by_name_or_by_hash_in_the_order_of_the_card(run: Run, tmp_path: Path) -> None:
    parts = [part_of(run, name) for name in ("p10_epochs2", "p0_epochs2")]
    moved = tmp_path / "moved" / "renamed.safetensors"
    moved.parent.mkdir()
    (run.models / "p0_epochs2.safetensors").rename(moved)
    with pytest.raises(DataError, match="ingredient p0_epochs2 is missing\\n"):
        index_of(run).ingredients(parts)
    found = index_of(run, moved.parent).ingredients(parts)
    assert [part.name for part in found] == ["p10_epochs2", "p0_epochs2"]
    assert [part.load()["w"][0].item() for part in found] == [11, 1]


def test_an_ingredient_of_other_bytes_is_named_and_the_others_are_counted(run: Run) -> None:
    parts = [part_of(run, name) for name in ("p0_epochs2", "p1_epochs2", "p10_epochs2")]
    first, second, third = (run.models / f"{part.name}.safetensors" for part in parts)
    second.replace(first)  # The second is still found: by its hash.
    third.unlink()
    problem = r"ingredient p0_epochs2 has changed \(and 1 more of its 3 ingredients\)"
    with pytest.raises(DataError, match=rf"{problem}(?s:.*){parts[0].sha256}(?s:.*)p0_epochs2\.safetensors with"):
        index_of(run).ingredients(parts)


def test_a_start_is_found_by_its_hash_and_checked_if_the_user_names_it(run: Run, tmp_path: Path) -> None:
    digest = run.sha256(run.start)
    assert index_of(run).start(digest, None).name == "p_start"
    other = run.models / "p0_epochs2.safetensors"
    with pytest.raises(DataError, match=r"p0_epochs2\.safetensors: not the start that"):
        index_of(run).start(digest, str(other))
    with pytest.raises(DataError, match="nothing: no such file"):
        index_of(run).start(digest, str(tmp_path / "nothing"))
    run.start.unlink()
    with pytest.raises(DataError, match=r"its start is missing(?s:.*)or the file with --start FILE"):
        index_of(run).start(digest, None)
