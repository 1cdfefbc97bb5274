"""Small folders made by hand: what counts as equal, as a sentence, as a picture, and as a difference."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tools.compare_versions.fields import Finding
from tools.compare_versions.folders import Comparison, compare_folders, compare_models_strictly, read_tables
from tools.compare_versions.report import report_lines

LOG = [
    {"epoch": 1, "loss": 0.25, "images_per_second": 100.5, "why": "as good as without it"},
    {"epoch": 2, "loss": 0.125, "images_per_second": 99.0, "why": "out of reach after 10 images"},
]
TABLE = "image,target,confidence\na.png,red,0.75\nb.png,blue,0.5\n"
MARKDOWN = "|  | test % | images/s |\n| --- | ---: | ---: |\n| best single (m1) | 66.7 | 1,204 |\n\np: exact test\n"
PRINTED = """images   right %  images/s
──────  ────────  ────────
mask        73.8       120
gender     100.0        95
took 12.3 s for 2 tables
"""


def write_model(path: Path, weights: list[float], summary: str = "kept 2 of 3") -> None:
    card = json.dumps({"kind": "soup", "soup": {"coefficient": 0.5, "summary": summary}})
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"head": np.array(weights, dtype=np.float32)}, path, metadata={"card": card})


def write_results(folder: Path) -> Path:
    """One file of each kind."""
    write_model(folder / "models" / "soup.safetensors", [1.0, 2.0])
    hashed = hash_of(folder / "models" / "soup.safetensors")
    np.save(folder / f"{hashed[:16]}-val.npy", np.arange(3.0))
    write_log(folder, [*LOG, {"sha256": hashed, "val": 0.5}])
    (folder / "table.csv").write_text(TABLE)
    (folder / "table.md").write_text(MARKDOWN)
    (folder / "printed.stdout").write_text(PRINTED)
    (folder / "settings.yaml").write_text("lr: 0.1\nversions:\n  torch: '2'\n")
    (folder / "page.html").write_text(
        '<script>x=1</script><p>4 images are wrong</p><img src="data:image/png;base64,A9">'
    )
    Image.fromarray(np.zeros((2, 2, 3), dtype=np.uint8)).save(folder / "figure.png")
    (folder / "lock").write_bytes(b"")
    return folder


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_log(folder: Path, lines: list[dict[str, Any]]) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return write_results(tmp_path / "before"), write_results(tmp_path / "after")


def compared(folders: tuple[Path, Path]) -> Comparison:
    result = Comparison()
    compare_folders(*folders, result)
    return result


def only_finding(folders: tuple[Path, Path]) -> Finding:
    (finding,) = compared(folders).findings
    return finding


def test_equal_folders(folders: tuple[Path, Path]) -> None:
    result = compared(folders)
    assert result.equal
    assert not result.findings
    lines = report_lines(result, "a against b")
    assert lines[0] == "a against b"
    assert "| models (tensors by bytes, cards by fields) | 1 | 1 | 0 | 0 |" in lines
    assert "| file names | 10 | 10 | 0 | 0 |" in lines
    assert lines[-1] == "Result: equal"
    assert any(line.startswith("Not compared: images_per_second (speed), images/s (speed)") for line in lines)


def test_flipped_byte_of_a_tensor(folders: tuple[Path, Path]) -> None:
    write_model(folders[1] / "models" / "soup.safetensors", [1.0, 2.5])
    result = compared(folders)
    places = {(finding.file, finding.place) for finding in result.findings}
    assert not result.equal
    assert places >= {("models/soup.safetensors", "bytes of tensor head")}
    lines = report_lines(result, "a against b")
    assert "- models/soup.safetensors, bytes of tensor head" in lines
    assert "| models (tensors by bytes, cards by fields) | 1 | 0 | 0 | 1 |" in lines
    assert lines[-1].startswith("DIFFERENT: ")


def test_flipped_byte_of_an_array(folders: tuple[Path, Path]) -> None:
    array = next(folders[1].glob("*.npy"))
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(data)
    finding = only_finding(folders)
    assert finding.kind == "difference"
    assert finding.file == "<hash of soup>-val.npy"
    assert finding.place == f"byte {len(data) - 1}"
    assert finding.before.startswith("40 (") and finding.after.startswith("41 (")


def test_sentence_of_a_card_changes_no_name_of_a_cached_array(folders: tuple[Path, Path]) -> None:
    """The card's sentence changes the checkpoint's hash, hence names and fields that hold the hash."""
    model = folders[1] / "models" / "soup.safetensors"
    write_model(model, [1.0, 2.0], summary="2 of 3 models kept")
    hashed = hash_of(model)
    array = next(folders[1].glob("*.npy"))
    array.rename(folders[1] / f"{hashed[:16]}-val.npy")
    write_log(folders[1], [*LOG, {"sha256": hashed, "val": 0.5}])
    result = compared(folders)
    assert result.equal
    (finding,) = result.findings
    assert finding == Finding(
        "sentence", "models/soup.safetensors", "card.card.soup.summary", "kept 2 of 3", "2 of 3 models kept"
    )
    lines = report_lines(result, "a against b")
    assert "Sentences that differ (their numbers are equal): 1" in lines
    assert "    after:  2 of 3 models kept" in lines
    assert lines[-1] == "Result: equal but for sentences and pictures"
    strict = Comparison()
    compare_models_strictly(*folders, strict)
    assert not strict.equal


@pytest.mark.parametrize(
    ("change", "place", "before", "after"),
    [
        ({"loss": 0.1250000000000001}, "line 2.loss", "0.125", "0.1250000000000001"),
        ({"epoch": 2.0}, "line 2.epoch", "2", "2.0"),
        ({"why": "out of reach after 11 images"}, "line 2.why", LOG[1]["why"], "out of reach after 11 images"),
        ({"why": "reached"}, "line 2.why", LOG[1]["why"], "reached"),
    ],
)
def test_changed_field_of_a_log(
    folders: tuple[Path, Path], change: dict[str, Any], place: str, before: str, after: str
) -> None:
    lines = lines_of(folders[1])
    lines[1] |= change
    write_log(folders[1], lines)
    assert only_finding(folders) == Finding("difference", "log.jsonl", place, before, after)


def test_changed_sentence_of_a_log(folders: tuple[Path, Path]) -> None:
    lines = lines_of(folders[1])
    lines[1]["why"] = "stopped early, at 10 images"
    write_log(folders[1], lines)
    assert compared(folders).equal
    assert only_finding(folders).kind == "sentence"


def test_changed_speed_is_not_compared(folders: tuple[Path, Path]) -> None:
    lines = lines_of(folders[1])
    lines[0]["images_per_second"] = 7.0
    write_log(folders[1], lines)
    (folders[1] / "table.md").write_text(MARKDOWN.replace("1,204", "9"))
    (folders[1] / "printed.stdout").write_text(PRINTED.replace("  95", "9999").replace("12.3 s", "1.5 s"))
    (folders[1] / "settings.yaml").write_text("lr: 0.1\nversions:\n  torch: '3'\n")
    assert not compared(folders).findings


def test_random_names_are_not_compared(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        (folder / ".locks").mkdir()
        (folder / ".locks" / "place").write_text(folder.name)
        with zipfile.ZipFile(folder / "exported.pt2", "w") as archive:
            archive.writestr("archive/.data/serialization_id", folder.name)
            archive.writestr("archive/model.json", json.dumps({"stack_trace": folder.name, "nodes": [1, 2]}))
    assert not compared(folders).findings
    with zipfile.ZipFile(folders[1] / "exported.pt2", "a") as archive:
        archive.writestr("archive/weights/0", b"1")
    assert only_finding(folders).place == "members"


def test_added_key_of_a_log(folders: tuple[Path, Path]) -> None:
    lines = lines_of(folders[1])
    lines[2]["extra"] = 1
    write_log(folders[1], lines)
    finding = only_finding(folders)
    assert (finding.place, finding.before) == ("line 3: keys", "['sha256', 'val']")
    assert finding.after == "['extra', 'sha256', 'val']"


def test_torn_line_of_a_log(folders: tuple[Path, Path]) -> None:
    log = folders[1] / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    found = compared(folders).findings
    assert [(finding.kind, finding.place) for finding in found] == [("difference", "lines"), ("difference", "line 3")]
    assert (found[0].before, found[0].after) == ("3", "2")
    assert found[1].after.startswith('no JSON: \'{"sha256"')


def test_missing_file(folders: tuple[Path, Path]) -> None:
    (folders[1] / "table.csv").unlink()
    (folders[1] / "more.csv").write_text(TABLE)
    found = compared(folders).findings
    assert found == [
        Finding("difference", "more.csv", "file", "missing", "there"),
        Finding("difference", "table.csv", "file", "there", "missing"),
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("table.csv", "0.75", "0.76", "table row 1, confidence"),
        ("table.csv", "b.png,blue", "b.png,red", "table row 2, target"),
        ("table.csv", "confidence", "probability", "table: header"),
        ("table.csv", "b.png,blue,0.5\n", "", "table: rows"),
        ("table.md", "66.7", "66.8", "table 1 row 1, test %"),
        ("table.md", "test %", "test", "table 1: header"),
        ("printed.stdout", "73.8", "73.9", "table 1 row 1, right %"),
        ("printed.stdout", "for 2 tables", "for 3 tables", "text line 1"),
        ("settings.yaml", "lr: 0.1", "lr: 0.2", ".lr"),
        ("page.html", "4 images", "5 images", "text line 1"),
        ("page.html", "x=1", "x=2", "script 1"),
    ],
)
def test_changed_number_of_a_text_file(folders: tuple[Path, Path], file: str, old: str, new: str, place: str) -> None:
    text = (folders[1] / file).read_text()
    assert old in text
    (folders[1] / file).write_text(text.replace(old, new))
    finding = only_finding(folders)
    assert (finding.kind, finding.file, finding.place) == ("difference", file, place)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("table.md", "best single (m1)", "best of the single models (m1)"),
        ("table.md", "p: exact test", "p: of the exact test\nof McNemar"),
        ("printed.stdout", "took 12.3 s for 2 tables", "2 tables in 7 s"),
        ("page.html", "4 images are wrong", "wrong images: 4"),
    ],
)
def test_changed_sentence_of_a_text_file(folders: tuple[Path, Path], file: str, old: str, new: str) -> None:
    text = (folders[1] / file).read_text()
    assert old in text
    (folders[1] / file).write_text(text.replace(old, new))
    assert only_finding(folders).kind == "sentence"


def test_pictures_are_listed_and_do_not_fail(folders: tuple[Path, Path]) -> None:
    pixels = np.zeros((2, 2, 3), dtype=np.uint8)
    pixels[0, 0] = 255
    Image.fromarray(pixels).save(folders[1] / "figure.png")
    result = compared(folders)
    assert result.equal
    assert result.findings == [Finding("picture", "figure.png", "pixels", "25% of the pixels", "are drawn otherwise")]
    assert "Pictures that differ (they hold words: look at them): 1" in report_lines(result, "a against b")


def test_lists_of_hashes_are_in_the_order_of_the_hashes(folders: tuple[Path, Path]) -> None:
    """A card's sentence changes the checkpoint's hash, hence its place in a sorted list of hashes."""
    for folder in folders:
        write_model(folder / "models" / "other.safetensors", [3.0])
    other = hash_of(folders[0] / "models" / "other.safetensors")
    first = [hash_of(folder / "models" / "soup.safetensors") < other for folder in folders]
    words = 0
    while first[0] == first[1]:
        words += 1
        write_model(folders[1] / "models" / "soup.safetensors", [1.0, 2.0], summary="kept 2 of 3" + " or so" * words)
        first[1] = hash_of(folders[1] / "models" / "soup.safetensors") < other
    for folder in folders:
        members = sorted(hash_of(path) for path in (folder / "models").iterdir())
        write_log(folder, [{"members": members}, {"members": [*members, "more"]}])
    places = [finding.place for finding in compared(folders).findings if finding.file == "log.jsonl"]
    assert places == ["line 2.members[0]", "line 2.members[1]"]


def test_paths_of_each_side_are_replaced(folders: tuple[Path, Path]) -> None:
    for folder in folders:
        write_log(folder, [{"image": f"{folder}/a.png"}])
    assert not compared(folders).equal
    result = Comparison()
    compare_folders(*folders, result, paths={str(folder): "<folder>" for folder in folders})
    assert result.equal


def test_read_tables() -> None:
    tables, others = read_tables(f"first\n{MARKDOWN}{PRINTED}")
    assert tables == [
        [["", "test %", "images/s"], ["best single (m1)", "66.7", "1,204"]],
        [["images", "right %", "images/s"], ["mask", "73.8", "120"], ["gender", "100.0", "95"]],
    ]
    assert others == ["first", "p: exact test", "took 12.3 s for 2 tables"]
