"""The fast reading of plain tables finds the same cells as a loop, or leaves the table to the careful reading."""

import numpy as np
import pytest

from soups.files.plain_tables import KnownIds

COLUMNS = ["image", "label"]


def write(rows: list[tuple[str, str]]) -> bytes:
    return ("image,label\n" + "".join(f"{name},{answer}\n" for name, answer in rows)).encode()


@pytest.mark.parametrize("seed", range(20))
def test_cells_are_those_of_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = ["".join(rng.choice(list("ab0é/ "), rng.integers(1, 30))) + str(number) for number in range(50)]
    answers = dict(zip(ids, rng.choice(["cat", "dög", "10", "1", ""], 50), strict=True))
    shuffled = [(ids[row], answers[ids[row]]) for row in rng.permutation(50)]
    data = write(shuffled)
    for form in (data, data.replace(b"\n", b"\r\n"), data.removesuffix(b"\n")):
        found = KnownIds(ids).read(form, COLUMNS)
        assert found is not None
        codes, texts = found
        assert [texts[code] for code in codes] == list(answers.values())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"image,label\n",
        b"image,answer\na,x\nb,y\n",
        b"image,label\na,x\nc,y\n",
        b"image,label\na,x\na,y\n",
        b"image,label\na,x\n",
        b"image,label\na,x\nb,y\nb,y\n",
        b"image,label\na,x,b\ny\n",
        b"image,label\na\nb,x,y\n",
        b"image,label\n\na,x\nb,y\n",
        b'image,label\n"a",x\nb,y\n',
        b"image,label\na,x\nb,\xff\n",
        b"image,label\na,x\nb,y\0\n",
        b"image,label\na,x\rb,y\n",
        b"image,label\na,more than eight\nb,y\n",
        "\ufeffimage,label\na,x\nb,y\n".encode(),
    ],
)
def test_other_tables_are_left_to_the_careful_reading(data: bytes) -> None:
    assert KnownIds(["a", "b"]).read(data, COLUMNS) is None
    assert KnownIds(["a", "b"]).read(b"image,label\nb,y\na,x\n", COLUMNS) is not None


def test_ids_with_line_breaks_are_left_to_the_careful_reading() -> None:
    assert KnownIds(["a\nb", "c"]).read(b"image,label\nb,y\nc,x\n", COLUMNS) is None


def test_ids_with_equal_hashes_are_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("soups.files.plain_tables._hash", lambda lanes: np.zeros(lanes.shape[1], np.uint64))
    assert KnownIds(["a", "b"]).read(b"image,label\nb,y\na,x\n", COLUMNS) is None
