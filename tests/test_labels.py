"""Label spaces: order, names and indices."""

import numpy as np
import pytest

from soups.errors import DataError, UsageError
from soups.labels import LabelSpace


def test_string_order_by_default_and_any_order_by_wish() -> None:
    assert LabelSpace.of(["10", "2", "1", "2"]).names == ("1", "10", "2")
    assert LabelSpace.of(["b", "a"], order=["b", "a"]).names == ("b", "a")


def test_class_order_must_fit_the_data() -> None:
    with pytest.raises(UsageError, match=r"--class-order(?s:.*)without cat; also bird"):
        LabelSpace.of(["cat", "dog"], order=["dog", "bird"])


def test_doubled_class_names_are_refused() -> None:
    with pytest.raises(DataError, match="twice: a, b"):
        LabelSpace(("a", "b", "b", "a", "c"))


def test_encode_and_decode_are_inverse() -> None:
    space = LabelSpace(("zero", "one", "two"))
    indices = space.encode(["two", "zero", "two"])
    assert indices.dtype == np.int64 and indices.tolist() == [2, 0, 2]
    assert space.decode(indices) == ["two", "zero", "two"]
    with pytest.raises(DataError, match=r"'four'(?s:.*)one of zero, one, two"):
        space.encode(["one", "four"])


@pytest.mark.parametrize(
    ("names", "column", "expected"),
    [
        (("cat", "dog"), ["dog", " cat "], ["dog", "cat"]),
        (("cat", "dog"), ["1", "0", "1"], ["dog", "cat", "dog"]),
        (("1", "10", "2"), ["1", "2", "10"], ["1", "2", "10"]),  # Names, although "1" and "2" are indices too.
        (("1", "10", "2"), ["0", "1", "2"], ["1", "10", "2"]),  # "0" is no name, so these are indices.
        (("cat", "dog"), [], []),
    ],
)
def test_columns_hold_names_or_indices(names: tuple[str, ...], column: list[str], expected: list[str]) -> None:
    assert LabelSpace(names).read_column(column) == expected


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["cat", "bird"], "'bird' is neither"),
        (["0", "2"], "'2' is neither"),
        (["0", "-1"], "'-1' is neither"),
        (["cat", ""], "'' is neither"),
        (["cat", "1"], r"partly names and partly indices(?s:.*)'cat' and '1'"),
    ],
)
def test_other_columns_are_refused(column: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        LabelSpace(("cat", "dog")).read_column(column)
