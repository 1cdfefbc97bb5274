"""Hostile names of files, classes, runs and models through every command; the pages are opened in a real browser."""

import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tools.fuzz.hostile_names import CANARY, HOSTILE, REFUSED, WITH_SLASHES, draw_hostile
from tools.tried_cases.case import Case, draw_classes, run_case, run_here

pytestmark = pytest.mark.second_tier

TINY_NETWORK = "--model baseline --image-size 32 --threads 1 --precision fp32"
COMMANDS = (
    "finetune --name odd --data-location data {TINY} --i 0-1",
    "main --eval-individual-models --uniform-soup --greedy-soup --soup learned --report --inspect --learning-curves",
    "inference --soft-voting --probabilities",
    "inference --hard-voting",
    "validation",
    "explain --model-name odd0_epochs1",
    "find-label-errors --name odd",
    "disagreement --members odd0_epochs1 odd1_epochs1",
    "show-batch --name odd",
    "export --format torch",
    "curate --pool data/train --target data/test --count 20 --model baseline --pretrained none",
    f"compare --name nets --data-location data --models baseline --seeds 1 --epochs 1 {TINY_NETWORK[17:]}",
    f"search --name tried --data-location data --trials 1 --epochs 1 {TINY_NETWORK}",
)


def browser() -> str:
    """Return Chromium's path, or skip where it is not needed."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None and (os.environ.get("SOUPS_REQUIRE_CHROMIUM") or os.environ.get("CI")):
        pytest.fail("Chromium is not installed")
    return found or pytest.skip("Chromium is not installed")


def opened(page: Path, profile: Path) -> str:
    """Return the document that a browser makes of a page, scripts and all."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([browser(), *flags, page.as_uri()], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which every command ran, and what each printed."""
    outer = tmp_path_factory.mktemp("hostile")
    (folder := outer / "work").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOUPS_CACHE", str(outer / "cache"))
        outcome = run_case(Case("hostile names", lambda where: draw_hostile(where / "data"), COMMANDS), folder)
    assert outcome.exit_codes == [0] * len(COMMANDS), outcome.texts[-1]
    return folder, outcome.texts


def test_a_browser_would_run_the_script(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(f"<p>{HOSTILE[0]}</p>")
    assert "data-hacked" in opened(tmp_path / "page.html", tmp_path / "profile")


def test_no_page_runs_a_script(worked: tuple[Path, list[str]], tmp_path: Path) -> None:
    pages = sorted(path for path in worked[0].rglob("*.html") if "data" not in path.parts[:1])
    assert len(pages) >= 5
    for page in pages:
        document = opened(page, tmp_path / "profile")
        assert "<body" in document and "data-hacked" not in document, page


def test_nothing_is_written_elsewhere(worked: tuple[Path, list[str]]) -> None:
    folder = worked[0]
    assert {path.name for path in folder.iterdir()} == {"data", "runs", "curated.csv", "curated.html"}
    assert {path.name for path in folder.parent.iterdir()} == {"work", "cache"}
    assert not list(folder.rglob(f"{CANARY}*"))


def test_terminals_and_spreadsheets_are_safe(worked: tuple[Path, list[str]]) -> None:
    text = "\n".join(worked[1])
    assert "Traceback" not in text and "\x1b" not in text and "\x07" not in text
    assert r"\x1b[31mred\x1b[0m" in text
    assert "soft_voting.csv: 5 names that begin with =, +, - or @, such as" in text


def test_answers_are_read_back_as_they_were_written(worked: tuple[Path, list[str]]) -> None:
    folder = worked[0]
    table = "runs/odd/output/hard_voting.csv"
    code, text = run_here("inference", ["--hard-voting", table, "--output", "again.csv"], folder)
    assert code == 0, text
    first, again = (
        pd.read_csv(folder / path, keep_default_na=False, dtype=str).set_index("image")["target"]
        for path in (table, "again.csv")
    )
    (folder / "again.csv").unlink()
    assert set(first) <= set(HOSTILE) and again[first.index].tolist() == first.str.strip(" ").tolist()


def test_proposed_corrections_are_read_back(worked: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder = worked[0]
    proposed = pd.read_csv(folder / "runs/odd/output/corrections.csv", keep_default_na=False, dtype=str)
    proposed.drop_duplicates("from").to_csv(tmp_path / "some.csv", index=False)
    flags = ["--data-location", str(folder / "data"), "--relabel", "some.csv", "--epochs", "1", *TINY_NETWORK.split()]
    code, text = run_here("finetune", flags, tmp_path)
    assert code == 0, text
    assert proposed["from"].nunique() > 20


@pytest.mark.parametrize("name", [*HOSTILE, *REFUSED, *WITH_SLASHES], ids=ascii)
def test_names_of_runs_and_models_stay_in_their_folder(name: str, tmp_path: Path) -> None:
    (work := tmp_path / "a" / "b" / "work").mkdir(parents=True)
    draw_classes(tmp_path / "data" / "train", ("cat", "dog"))
    flags = [f"--name={name}", "--data-location", "../../../data", "--epochs", "1", *TINY_NETWORK.split()]
    code, text = run_here("finetune", flags, work)
    assert code in (0, 2, 4) and (code == 0 or "error: " in text)
    made = {path.relative_to(work).parts[0] for path in work.rglob("*")}
    assert made <= {"runs"} and {path.name for path in tmp_path.iterdir()} == {"a", "data"}
    for command in ("inference", "validation", "export"):
        code, text = run_here(command, [f"--model-name={name}"], work)
        assert code in (2, 3) and "error: " in text


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_names_that_no_table_can_hold_are_refused(name: str, tmp_path: Path) -> None:
    draw_classes(tmp_path / "train", ("cat", name))
    code, text = run_here("finetune", ["--data-location", ".", *TINY_NETWORK.split()], tmp_path)
    assert code == 3 and "cannot be written into a table" in text
