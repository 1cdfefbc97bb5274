"""Voting rules against loops."""

import itertools

import numpy as np
import pytest

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor, LabelSpace
from soups.ensembles.rules import RULES, normalize_weights


def random_tables(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    models, images, classes = int(rng.integers(1, 6)), int(rng.integers(1, 8)), int(rng.integers(1, 5))
    # Sixteenths: sums are exact and ties are frequent.
    tables = rng.multinomial(16, np.full(classes, 1 / classes), size=(models, images)) / 16
    return tables.astype(rng.choice([np.float32, np.float64]))


def slow_hard(tables: np.ndarray) -> list[int]:
    winners = []
    for image in range(tables.shape[1]):
        votes = [max(range(tables.shape[2]), key=lambda c: (table[image][c], -c)) for table in tables]
        sums = [sum(float(table[image][c]) for table in tables) for c in range(tables.shape[2])]
        winners.append(max(range(tables.shape[2]), key=lambda c: (votes.count(c), sums[c], -c)))
    return winners


def test_hard_vote_breaks_ties_by_sum_then_index() -> None:
    for seed in range(500):
        tables = random_tables(seed)
        shares = RULES["hard"](tables, None, SPACE)
        assert shares.argmax(axis=1).tolist() == slow_hard(tables), seed
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        votes = np.stack([np.eye(tables.shape[2])[table.argmax(axis=1)] for table in tables]).mean(axis=0)
        np.testing.assert_allclose(shares, votes, atol=2e-9)


def test_hard_breaks_a_three_way_tie_among_the_tied_only() -> None:
    # Classes 0 and 1 have a vote each; class 2 has none but the highest sum, and must not win.
    tables = np.array([[[0.5, 0.05, 0.45]], [[0.05, 0.5, 0.45]]])
    assert RULES["hard"](tables, None, SPACE)[0] == pytest.approx([0.5, 0.5, 0.0])
    tables[1, 0] = [0.0, 0.55, 0.45]
    assert RULES["hard"](tables, None, SPACE).argmax() == 1


def test_flags_select_one_rule_each() -> None:
    keys = [(rule.flag, *sorted(rule.options.items())) for name, rule in RULES.items() if name != "joint"]
    assert len(set(keys)) == len(keys) and all(rule.description for rule in RULES.values())


def test_no_rule_depends_on_the_order_of_models() -> None:
    rng = np.random.default_rng(0)
    tables = rng.dirichlet(np.ones(3), size=(4, 50))
    for name, rule in RULES.items():
        expected = rule(tables, None, THREE)
        for order in itertools.permutations(range(4)):
            np.testing.assert_allclose(rule(tables[list(order)], None, THREE), expected, rtol=1e-14, err_msg=name)
            if name == "hard":
                assert np.array_equal(rule(tables[list(order)], None, THREE), expected)


def test_soft_is_the_mean_in_double_precision() -> None:
    for seed in range(50):
        tables = random_tables(seed)
        found = RULES["soft"](tables, None, SPACE)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, sum(table.astype(float) for table in tables) / len(tables))


def test_weighted_is_the_weighted_mean() -> None:
    for seed in range(50):
        tables = random_tables(seed)
        weights = np.random.default_rng(seed).uniform(0.1, 3, len(tables))
        expected = np.average(tables.astype(float), axis=0, weights=weights)
        np.testing.assert_allclose(RULES["weighted"](tables, weights, SPACE), expected)
        np.testing.assert_allclose(RULES["weighted"](tables, None, SPACE), RULES["soft"](tables, None, SPACE))


def test_one_model_is_its_own_ensemble() -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(4), size=(1, 10))
    for name, rule in RULES.items():
        if name != "split":  # Its winner is put together from the levels of the factors.
            assert np.array_equal(rule(table, np.ones(1), FOUR).argmax(axis=1), table[0].argmax(axis=1))


@pytest.mark.parametrize("weights", [[1, 2, 3], [1, -1], [0, 0], [np.nan, 1], [np.inf, 1]])
def test_invalid_weights_are_errors(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weights"):
        normalize_weights(np.array(weights), 2)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_vote_without_models_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match="a vote without models"):
        RULES[name](np.zeros((0, 3, 2)), None, SPACE)


def test_minmax_scales_each_image_s_logits() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 3, size=(int(rng.integers(1, 5)), 6, 4))
        tables = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
        found = RULES["minmax"](tables, None, SPACE)
        for image in range(6):
            scaled = [(z[image] - z[image].min()) / (z[image].max() - z[image].min()) for z in logits]
            expected = np.mean(scaled, axis=0)
            np.testing.assert_allclose(found[image], expected / expected.sum(), atol=1e-12)
    even = RULES["minmax"](np.full((2, 1, 4), 0.25), None, SPACE)
    assert even.tolist() == [[0.25] * 4]


# Votes on each factor

THREE = LabelSpace.product([Factor("one", ("a", "b", "c"))])
FOUR = LabelSpace.product([Factor("one", ("a", "b")), Factor("two", ("c", "d"))])
SPACE = LabelSpace.product(
    Factor(name, levels)
    for name, levels in {
        "mask": ("mask", "incorrect", "normal"),
        "gender": ("male", "female"),
        "age": ("a", "b", "c"),
    }.items()
)


def slow_split(tables: np.ndarray) -> list[str]:
    """Each factor's majority, ties to the greater sum of marginals, then the lower level."""
    winners = []
    for image in range(tables.shape[1]):
        levels = []
        for place, factor in enumerate(SPACE.factors):
            votes = [SPACE.names[int(table[image].argmax())].split("/")[place] for table in tables]
            sums = {
                level: sum(
                    float(table[image][index])
                    for table in tables
                    for index, name in enumerate(SPACE.names)
                    if name.split("/")[place] == level
                )
                for level in factor.levels
            }
            merits = [(votes.count(level), sums[level], -index) for index, level in enumerate(factor.levels)]
            levels.append(factor.levels[merits.index(max(merits))])
        winners.append("/".join(levels))
    return winners


def test_a_split_vote_recomposes_the_winners_of_each_factor() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # Eighths of few classes: sums are exact and ties are frequent.
        tables = rng.multinomial(8, rng.dirichlet(np.ones(18) / 3), size=(int(rng.integers(1, 6)), 5)) / 8
        shares = RULES["split"](tables, None, SPACE)
        assert SPACE.decode(shares.argmax(axis=1)) == slow_split(tables), seed
        np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_a_split_vote_may_return_a_class_without_votes() -> None:
    answers = ["mask/male/a", "mask/female/b", "normal/female/a"]
    tables = np.eye(18)[[SPACE.names.index(answer) for answer in answers]][:, None]
    assert SPACE.decode(RULES["split"](tables, None, SPACE).argmax(axis=1)) == ["mask/female/a"]
    with pytest.raises(UsageError, match="classes that are made of factors"):
        RULES["split"](np.ones((1, 1, 2)) / 2, None, LabelSpace(("cat", "dog")))
