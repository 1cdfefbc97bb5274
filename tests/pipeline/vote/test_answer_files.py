"""Names of answer files: answers for other images are never overwritten."""

from pathlib import Path

import pytest

from soups.core.errors import UsageError
from soups.files.jsonl import read_records
from soups.pipeline.settings.commands import InferenceSettings
from soups.pipeline.vote.answer_files import AnswerFiles

ROWS = "image,target\na.png,cat\nb.png,dog\n"


def written(files: AnswerFiles, stem: str = "soft") -> str:
    path = files.path(stem)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ROWS)
    files.record(path)
    return path.name


def test_the_same_images_are_written_to_the_same_file(tmp_path: Path) -> None:
    settings, ids = InferenceSettings(), ["a.png", "b.png"]
    own, other = (AnswerFiles(settings, tmp_path, [place, *ids], ids) for place in ("", "elsewhere"))
    assert [written(own), written(own), written(other), written(other), written(own)] == [
        *("soft.csv", "soft.csv", "soft-2.csv", "soft-2.csv", "soft.csv")
    ]
    assert len(read_records(tmp_path / "logs" / "answers.jsonl")) == 2
    third = AnswerFiles(settings, tmp_path, ["third", *ids], ids)
    assert written(third) == "soft-3.csv" and written(third, "hard") == "hard.csv"


def test_a_file_without_a_record_is_told_apart_by_its_ids(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "soft.csv").write_text(ROWS)
    same, other = (AnswerFiles(InferenceSettings(), tmp_path, ids, ids) for ids in (["b.png", "a.png"], ["c.png"]))
    assert other.path("soft").name == "soft-2.csv" and same.path("soft").name == "soft.csv"


def test_a_named_file_of_other_images_is_refused(tmp_path: Path) -> None:
    settings = InferenceSettings(output=str(tmp_path / "x.csv"))
    written(AnswerFiles(settings, None, ["a.png"], ["a.png", "b.png"]))
    with pytest.raises(UsageError, match="it holds the answers for other images"):
        AnswerFiles(settings, None, ["c.png"], ["c.png"]).path("soft")


def test_a_second_file_takes_a_number_beside_one_of_other_images(tmp_path: Path) -> None:
    (tmp_path / "x_probabilities.csv").write_text("id,label\nmine,1\n")
    files = AnswerFiles(InferenceSettings(output=str(tmp_path / "x.csv")), tmp_path, ["a.png"], ["a.png"])
    second = files.numbered(tmp_path / "x_probabilities.csv")
    assert second.name == "x_probabilities-2.csv"
    second.write_text(ROWS)
    files.record(second)
    assert files.numbered(tmp_path / "x_probabilities.csv") == second
