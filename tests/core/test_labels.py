"""Label spaces: order, names and indices."""

from itertools import product

import numpy as np
import pytest

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor, LabelSpace


def test_classes_are_in_string_order_or_in_a_given_order() -> None:
    assert LabelSpace.of(["10", "2", "1", "2"]).names == ("1", "10", "2")
    assert LabelSpace.of(["b", "a"], order=["b", "a"]).names == ("b", "a")


def test_class_order_must_fit_the_data() -> None:
    with pytest.raises(UsageError, match=r"--class-order(?s:.*)without cat; also bird"):
        LabelSpace.of(["cat", "dog"], order=["dog", "bird"])


def test_repeated_class_names_are_rejected() -> None:
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
def test_mixed_and_unknown_columns_are_rejected(column: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        LabelSpace(("cat", "dog")).read_column(column)


# Labels that are made of factors

MASK, GENDER = Factor("mask", ("mask", "incorrect", "normal")), Factor("gender", ("male", "female"))
AGE = Factor("age", ("young", "middle", "old"))
JOINT = LabelSpace.product([MASK, GENDER, AGE])


def test_a_product_s_index_is_that_of_its_levels() -> None:
    assert len(JOINT) == 18 and JOINT.factor_names == ("mask", "gender", "age")
    for mask, gender, age in product(range(3), range(2), range(3)):
        name = f"{MASK.levels[mask]}/{GENDER.levels[gender]}/{AGE.levels[age]}"
        assert JOINT.encode([name]).tolist() == [mask * 6 + gender * 3 + age]
        assert JOINT.decode([mask * 6 + gender * 3 + age]) == [name]


def test_part_keeps_the_order_of_the_factors() -> None:
    part = JOINT.part(["age", "mask"])
    assert part.factors == (MASK, AGE) and part.names[:4] == (
        "mask/young",
        "mask/middle",
        "mask/old",
        "incorrect/young",
    )
    assert JOINT.part(["age"]).names == ("young", "middle", "old")
    with pytest.raises(UsageError, match=r"unknown factor 'agee'(?s:.*)did you mean 'age'"):
        JOINT.part(["agee"])


@pytest.mark.parametrize(
    "kept", [["mask"], ["gender"], ["age"], ["mask", "gender"], ["gender", "age"], ["mask", "age"]]
)
def test_marginals_agree_with_brute_force(kept: list[str]) -> None:
    generator = np.random.default_rng(len(kept))
    probabilities = generator.dirichlet(np.ones(18), size=40)
    part = JOINT.part(kept)
    places = [JOINT.factor_names.index(name) for name in part.factor_names]
    expected = np.zeros((40, len(part)))
    for row in range(40):
        for index, name in enumerate(JOINT.names):
            levels = name.split("/")
            expected[row, part.names.index("/".join(levels[place] for place in places))] += probabilities[row, index]
    found = JOINT.marginal(probabilities, part)
    assert np.allclose(found, expected, atol=1e-15) and np.allclose(found.sum(axis=1), 1)
    assert np.array_equal(JOINT.marginal(probabilities, JOINT), probabilities)


def test_another_order_of_the_classes_keeps_their_factors() -> None:
    turned = LabelSpace(JOINT.names[::-1], JOINT.factors)
    assert turned.projection(JOINT.part(["age"])).tolist() == [2, 1, 0] * 6


def test_invalid_factors_are_rejected() -> None:
    with pytest.raises(DataError, match="not the products of the factors"):
        LabelSpace(("young", "old"), (AGE,))
    with pytest.raises(DataError, match="factors appear twice: age"):
        LabelSpace.product([AGE, AGE])
    for name, levels, words in [
        ("age", ("young",), "at least two"),
        ("age", ("young", "young"), "all different"),
        ("age", ("a/b", "c"), "'a/b' cannot be a name"),
        ("", ("a", "b"), "'' cannot be a name"),
    ]:
        with pytest.raises(DataError, match=words):
            LabelSpace.product([Factor(name, levels)])
    with pytest.raises(DataError, match=r"classes of other factors(?s:.*)age \(child, adult\)"):
        JOINT.projection(LabelSpace.product([Factor("age", ("child", "adult"))]))
    with pytest.raises(DataError, match=r"classes of other factors(?s:.*)the classes cat, dog"):
        JOINT.projection(LabelSpace(("cat", "dog")))
