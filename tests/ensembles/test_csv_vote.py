"""Votes over tables, against dictionaries and loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor, LabelSpace
from soups.ensembles import RULES, combine_tables, vote_tables

Write = Callable[[str, str], Path]
SPACE = LabelSpace(("cat", "dog", "owl"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def answers(table: pd.DataFrame) -> list[str]:
    return table.iloc[:, 1].tolist()


def slow_vote(tables: list[pd.DataFrame], with_confidence: bool) -> list[str]:
    winners = []
    for image in tables[0]["image"]:
        rows = [table[table["image"] == image].iloc[0] for table in tables]
        given = [row["target"] for row in rows]
        sums = {c: round(sum(float(r["confidence"]) for r in rows if r["target"] == c), 9) for c in given}
        best = max(given.count(c) for c in given)
        leading = [c for c in given if given.count(c) == best]
        if with_confidence:
            highest = max(sums[c] for c in leading)
            leading = [c for c in leading if sums[c] == highest]
        winners.append(leading[0])  # `given` is in the order of the tables.
    return winners


@pytest.mark.parametrize("with_confidence", [True, False])
def test_votes_equal_a_loop_on_random_tables(tmp_path: Path, with_confidence: bool) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        tables, paths = [], []
        for index in range(int(rng.integers(1, 7))):
            table = pd.DataFrame({"image": [f"{i:03d}" for i in range(12)]})
            table["target"] = rng.choice(["a", "b", "c"], 12)
            table["confidence"] = rng.integers(1, 5, 12) / 10
            table = table.sample(frac=1, random_state=seed * 10 + index)
            tables.append(table)
            paths.append(tmp_path / f"{index}.csv")
            # One table without the column is enough to leave confidences out of it.
            kept = table if with_confidence or index else table.drop(columns="confidence")
            kept.to_csv(paths[-1], index=False)
        found = vote_tables(paths)
        assert found["image"].tolist() == tables[0]["image"].tolist()
        assert answers(found) == slow_vote(tables, with_confidence), seed


def test_rows_are_aligned_by_id_and_ids_stay_text(write: Write) -> None:
    one = write("one.csv", "image,target\n007,cat\n7,dog\n")
    two = write("two.csv", "id,label\n7,dog\n007,cat\n")
    found = vote_tables([one, two, two])
    assert found.to_dict("list") == {"image": ["007", "7"], "target": ["cat", "dog"]}


def test_the_first_table_gives_columns_and_order(write: Write) -> None:
    first = write("first.csv", "image,usage,target,confidence,cat,dog\nb,x,cat,0.9,0.9,0.1\na,y,dog,0.8,0.2,0.8\n")
    second = write("second.csv", "image,target\na,dog\nb,dog\n")
    third = write("third.csv", "image,target\na,dog\nb,dog\n")
    found = vote_tables([first, second, third])
    assert found.columns.tolist() == ["image", "usage", "target", "confidence", "cat", "dog"]
    assert found["target"].tolist() == ["dog", "dog"] and found["usage"].tolist() == ["x", "y"]
    assert found["confidence"].tolist() == pytest.approx([2 / 3, 1])
    assert found["cat"].tolist() == pytest.approx([1 / 3, 0]) and found["dog"].tolist() == pytest.approx([2 / 3, 1])


def test_ties_go_to_confidence_where_all_have_it_else_to_the_earliest(write: Write) -> None:
    low = write("low.csv", "image,target,confidence\na,cat,0.4\n")
    high = write("high.csv", "image,target,confidence\na,dog,0.7\n")
    silent = write("silent.csv", "image,target\na,dog\n")
    assert answers(vote_tables([low, high])) == ["dog"]
    assert answers(vote_tables([low, silent])) == ["cat"]
    assert answers(vote_tables([silent, low])) == ["dog"]


def test_equal_sums_of_confidences_are_a_tie(write: Write) -> None:
    paths = [
        write(f"{index}.csv", f"image,target,confidence\na,{target},{confidence}\n")
        for index, (target, confidence) in enumerate([("cat", 0.6), ("cat", 0.3), ("dog", 0.5), ("dog", 0.4)])
    ]
    assert 0.6 + 0.3 != 0.5 + 0.4
    assert answers(vote_tables(paths)) == ["cat"]
    assert answers(vote_tables(paths[::-1])) == ["dog"]


def test_names_and_indices_are_one_with_a_label_space(write: Write) -> None:
    names = write("names.csv", "image,target\na,owl\nb,cat\n")
    indices = write("indices.csv", "image,ans\na,2\nb,1\n")
    more = write("more.csv", "image,ans\na,0\nb,1\n")
    assert answers(vote_tables([names, indices, more], SPACE)) == ["owl", "dog"]
    assert answers(vote_tables([indices, names, more], SPACE)) == ["2", "1"]
    with pytest.raises(DataError, match=r"indices.csv: has classes as numbers, .*names.csv as names"):
        vote_tables([names, indices])


def test_an_unclear_column_of_classes_is_an_error(write: Write) -> None:
    path = write("odd.csv", "file,one,guess\na,1,cat\n")
    with pytest.raises(DataError, match=r"odd.csv: which column holds the class(?s:.*)one, guess"):
        vote_tables([path])
    assert vote_tables([write("one.csv", "file,guess\na,cat\n")])["guess"].tolist() == ["cat"]


GOOD = "image,target,confidence\na,cat,0.5\nb,dog,0.5\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,target\na,cat\n", r"bad.csv: lacks 1 image: b(?s:.*)good.csv"),
        ("image,target\na,cat\nb,dog\nc,cat\n", r"bad.csv: has also 1 image: c(?s:.*)good.csv"),
        ("image,target\na,cat\nb,dog\nb,dog\n", "bad.csv, line 4: the id 'b' appears twice"),
        ("image,target\na,cat\na,dog\n", "bad.csv, line 3: the id 'a' appears twice"),
        ("image,target\na,cat\nb,fish\n", "bad.csv: 'fish' is neither a class name nor an index"),
        ("image,target\na,cat\nb,1\n", "bad.csv: labels are partly names and partly indices"),
        (
            "image,target,confidence\na,cat,0.5\nb,dog,high\n",
            r"bad.csv, line 3: the confidence is not a number(?s:.*)high",
        ),
        ("image,target\na,cat\nb\n", "bad.csv, line 3: no class for the id 'b'"),
        ("image,target\na,cat,\nb,dog,\n", "bad.csv: the rows have more fields than the header"),
        ("image,target\n", "bad.csv: no labels"),
        ("image\na\nb\n", "bad.csv: no labels"),
        ("", "bad.csv: not a readable CSV"),
    ],
)
def test_tables_that_do_not_match_are_errors(write: Write, text: str, words: str) -> None:
    good, bad = write("good.csv", GOOD), write("bad.csv", text)
    with pytest.raises(DataError, match=words):
        vote_tables([good, bad], SPACE)


def test_a_repeated_id_in_the_first_table_is_an_error(write: Write) -> None:
    first = write("first.csv", "image,target\na,cat\nb,cat\na,dog\n")
    with pytest.raises(DataError, match=r"first.csv, line 4: the id 'a' appears twice"):
        vote_tables([first, write("good.csv", GOOD)])


def test_no_tables_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tables"):
        vote_tables([])
    with pytest.raises(DataError, match=r"absent.csv: no such file"):
        vote_tables([tmp_path / "absent.csv"])


def test_blocks_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for index in range(4):
        paths.append(tmp_path / f"{index}.csv")
        table = pd.DataFrame({"image": np.arange(50), "target": rng.choice(list("xyz"), 50)})
        table.assign(confidence=rng.random(50)).to_csv(paths[-1], index=False)
    whole = vote_tables(paths)
    monkeypatch.setattr("soups.ensembles.csv_vote._CELLS_AT_ONCE", 20)
    pd.testing.assert_frame_equal(vote_tables(paths), whole)


# Votes on each factor

JOINT = LabelSpace.product([Factor("mask", ("on", "off")), Factor("age", ("young", "middle", "old"))])


def slow_split(rows: list[tuple[str, float]]) -> str:
    """Of one image's answers and confidences, each factor's majority as `slow_vote` has it."""
    levels = []
    for place in range(2):
        given = [answer.split("/")[place] for answer, _ in rows]
        sums = {level: round(sum(c for g, (_, c) in zip(given, rows, strict=True) if g == level), 9) for level in given}
        best = max(given.count(level) for level in given)
        leading = [level for level in given if given.count(level) == best]
        levels.append(next(level for level in leading if sums[level] == max(sums[each] for each in leading)))
    return "/".join(levels)


@pytest.mark.parametrize("as_indices", [False, True])
def test_split_votes_equal_a_loop_on_random_tables(tmp_path: Path, as_indices: bool) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        given = rng.integers(0, 6, size=(int(rng.integers(1, 7)), 15))
        confidences = rng.integers(1, 5, given.shape) / 10
        paths = []
        for number, row in enumerate(given):
            paths.append(tmp_path / f"{number}.csv")
            cells = row if as_indices else [JOINT.names[index] for index in row]
            table = pd.DataFrame(
                {"id": [f"{i}.png" for i in range(15)], "ans": cells, "confidence": confidences[number]}
            )
            table.to_csv(paths[-1], index=False)
        found = vote_tables(paths, JOINT, split=True)["ans"].tolist()
        expected = [
            slow_split([(JOINT.names[given[m, i]], confidences[m, i]) for m in range(len(given))]) for i in range(15)
        ]
        assert found == ([str(JOINT.names.index(name)) for name in expected] if as_indices else expected), seed


def test_the_share_of_a_split_vote_is_the_product_of_its_levels(write: Write) -> None:
    rows = ["on/young,0.9", "on/old,0.8", "off/old,0.7"]
    paths = [write(f"{n}.csv", f"id,target,confidence\nx,{row}\n") for n, row in enumerate(rows)]
    table = vote_tables(paths, JOINT, split=True)
    assert table["target"].tolist() == ["on/old"] and table["confidence"].iloc[0] == pytest.approx(4 / 9)
    with pytest.raises(UsageError, match="classes that are made of factors"):
        vote_tables(paths, split=True)


@pytest.mark.parametrize(
    ("space", "first", "second", "words"),
    [
        (None, "cat dog", "Cat dog", r"the class 'Cat' is 'cat' in .*a\.csv, which differs only by case"),
        (None, "cat dog", "0.0 1.0", r"b\.csv: has classes as numbers, .*a\.csv as names"),
        (LabelSpace(("1", "2", "3")), "1 2", "0 1", r"b\.csv: has classes as indices, .*a\.csv as names"),
    ],
)
def test_one_class_written_in_two_ways_is_refused(
    write: Write, space: LabelSpace | None, first: str, second: str, words: str
) -> None:
    paths = [
        write(name, "image,label\nx,{}\ny,{}\n".format(*cells.split()))
        for name, cells in (("a.csv", first), ("b.csv", second))
    ]
    with pytest.raises(DataError, match=words):
        vote_tables(paths, space)


def test_indices_that_were_written_as_floats_are_indices(write: Write) -> None:
    paths = [write("a.csv", "image,label\nx,cat\ny,owl\n"), write("b.csv", "image,label\nx,0.0\ny,2.0\n")]
    assert answers(vote_tables(paths, SPACE)) == ["cat", "owl"]
    assert answers(vote_tables(paths[::-1], SPACE)) == ["0", "2"]


def test_a_table_without_a_header_votes_on_its_first_image(write: Write) -> None:
    paths = [write(f"{name}.csv", "im0.png,cat\nim1.png,dog\n") for name in "abc"]
    voted = vote_tables(paths)
    assert voted.to_numpy().tolist() == [["im0.png", "cat"], ["im1.png", "dog"]]


def test_tables_with_an_index_column_vote_by_image(write: Write) -> None:
    paths = [
        write("a.csv", ",image,label\n0,x,cat\n1,y,dog\n"),
        write("b.csv", ",image,label\n0,y,dog\n1,x,cat\n"),
    ]
    assert vote_tables(paths).to_numpy().tolist() == [["x", "cat"], ["y", "dog"]]


# Tables with probabilities


def test_columns_of_classes_hold_the_shares_of_the_vote(write: Write) -> None:
    first = write("a.csv", "image,label,width,cat,eel,dog\nx,cat,640,0.5,0.3,0.2\n")
    others = [write(f"{name}.csv", f"image,label\nx,{name}\n") for name in ("cat", "dog")]
    (row,) = vote_tables([first, *others]).to_dict("records")
    assert row == {"image": "x", "label": "cat", "width": "640", "cat": 2 / 3, "eel": 0, "dog": 1 / 3}


def test_columns_that_may_be_classes_are_refused_rather_than_kept(write: Write) -> None:
    paths = [write(f"{name}.csv", f"image,label,cat,dog,eel\nx,{name},3,-1,2\n") for name in ("cat", "dog")]
    with pytest.raises(
        DataError, match=r"cat\.csv: columns are named after classes(?s:.*)next:     remove cat, dog, or"
    ):
        vote_tables(paths)


def test_tables_of_probabilities_vote_for_the_most_probable_class(write: Write) -> None:
    first = write("a.csv", "image,label\nx,cat\ny,cat\n")
    second = write("b.csv", "image,dog,cat\ny,0.2,0.8\nx,0.7,0.3\n")
    third = write("c.csv", "image,cat,dog\nx,0.4,0.6\ny,0.1,0.9\n")
    assert answers(vote_tables([first, second, third])) == ["dog", "cat"]
    assert answers(vote_tables([first, second, third], LabelSpace(("cat", "dog")))) == ["dog", "cat"]
    found = vote_tables([second, third])  # Ties go to the higher probability.
    assert found["dog"].tolist() == [0.5, 1.0] and found["image"].tolist() == ["y", "x"]


def test_probabilities_of_the_second_class_are_averaged_and_counted(write: Write) -> None:
    paths = [write("a.csv", "id,target\nx,0.9\ny,0.2\n"), write("b.csv", "id,target\ny,0.6\nx,0.7\n")]
    assert combine_tables(paths, RULES["soft"])["target"].tolist() == pytest.approx([0.8, 0.4])
    assert vote_tables(paths)["target"].tolist() == [1.0, 0.5]
    named = combine_tables(paths, RULES["soft"], None, LabelSpace(("cat", "dog")))
    assert named["target"].tolist() == pytest.approx([0.8, 0.4])


def test_rules_combine_probabilities_by_the_names_of_columns_and_ids(write: Write) -> None:
    rng = np.random.default_rng(0)
    members, paths = rng.dirichlet(np.ones(3), (3, 20)), []
    for number, member in enumerate(members):
        rows, columns = rng.permutation(20), rng.permutation(3)
        table = pd.DataFrame(member[rows][:, columns], columns=[SPACE.names[column] for column in columns])
        table.insert(int(rng.integers(0, 4)), "image", [f"{row}.png" for row in rows])
        paths.append(write(f"{number}.csv", table.to_csv(index=False)))
    weights = np.array([1.0, 2, 3])
    for space in (None, SPACE):
        for rule in ("soft", "weighted", "minmax"):
            found = combine_tables(paths, RULES[rule], weights, space)
            rows = [int(name.removesuffix(".png")) for name in found["image"]]
            expected = RULES[rule](members, weights, SPACE)[rows]
            assert np.allclose(found[list(SPACE.names)].to_numpy(dtype=float), expected)


def test_indices_beside_columns_of_classes_are_answered_as_indices(write: Write) -> None:
    paths = [
        write("a.csv", "image,ans,owl,cat\nx,1,0.4,0.6\ny,0,0.9,0.1\n"),
        write("b.csv", "image,ans,cat,owl\nx,0,0.8,0.2\ny,0,0.7,0.3\n"),
    ]
    assert answers(combine_tables(paths, RULES["soft"])) == ["1", "0"]
    assert answers(vote_tables([*paths, paths[1]])) == ["1", "1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,label\nx,cat\n", r"b\.csv: has classes, but no probabilities"),
        ("image,cat,eel\nx,0.5,0.5\n", r"b\.csv: has probabilities of other classes(?s:.*)cat, dog"),
        ("image,cat,dog\nx,0.5,0.75\n", r"b\.csv, line 2: no probabilities that sum to 1"),
        ("image,cat,dog\nz,0.5,0.5\n", r"b\.csv: lacks 1 image: x"),
    ],
)
def test_tables_that_cannot_be_combined_are_errors(write: Write, text: str, words: str) -> None:
    paths = [write("a.csv", "image,cat,dog\nx,0.25,0.75\n"), write("b.csv", text)]
    with pytest.raises(DataError, match=words):
        combine_tables(paths, RULES["soft"])
    with pytest.raises(UsageError, match="no tables"):
        combine_tables([], RULES["soft"])
