"""Products of experts: lifting, pooling and fitted exponents, against loops and a grid."""

import itertools
import math

import numpy as np
import pytest

from soups.core.errors import DataError, UsageError
from soups.core.labels import Factor, LabelSpace
from soups.core.scores import log_loss
from soups.ensembles import fit_exponents, lift_to_joint, original_formula
from soups.ensembles.joint import log_linear_pool

JOINT = LabelSpace.product(
    [Factor("mask", ("on", "off")), Factor("gender", ("male", "female")), Factor("age", ("young", "middle", "old"))]
)
AGE, REST = JOINT.part(["age"]), JOINT.part(["mask", "gender"])


def tables(seed: int, images: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A joint model, one of mask and gender, one of age."""
    rng = np.random.default_rng(seed)
    return tuple(rng.dirichlet(np.ones(len(space)), size=images) for space in (JOINT, REST, AGE))  # type: ignore[return-value]


def test_lifting_assigns_each_class_the_probability_of_its_level() -> None:
    _, rest, age = tables(0)
    for index, name in enumerate(JOINT.names):
        mask, gender, years = name.split("/")
        assert np.array_equal(lift_to_joint(age, JOINT, AGE)[:, index], age[:, AGE.names.index(years)])
        assert np.array_equal(lift_to_joint(rest, JOINT, REST)[:, index], rest[:, REST.names.index(f"{mask}/{gender}")])
    with pytest.raises(DataError, match=r"classes of other factors(?s:.*)age \(child, adult\)"):
        lift_to_joint(age[:, :2], JOINT, LabelSpace.product([Factor("age", ("child", "adult"))]))


def test_two_parallel_models_are_independent_beliefs() -> None:
    _, rest, age = tables(1)
    joined = log_linear_pool(np.stack([lift_to_joint(rest, JOINT, REST), lift_to_joint(age, JOINT, AGE)]))
    expected = np.einsum("nr,na->nra", rest, age).reshape(9, 12)  # Age changes fastest.
    np.testing.assert_allclose(joined, expected, atol=1e-12)
    np.testing.assert_allclose(JOINT.marginal(joined, AGE), age, atol=1e-9)


def test_the_log_linear_pool_equals_the_formula() -> None:
    for seed in range(20):
        joint, rest, age = tables(seed)
        age[0, 1] = 0.0  # Counts as 1e-12.
        weights = np.random.default_rng(seed).uniform(0, 2, 3)
        experts = np.stack([joint, lift_to_joint(rest, JOINT, REST), lift_to_joint(age, JOINT, AGE)])
        found = log_linear_pool(experts, weights)
        for image in range(9):
            scores = [
                math.exp(
                    sum(w * math.log(max(table[image, c], 1e-12)) for w, table in zip(weights, experts, strict=True))
                )
                for c in range(12)
            ]
            np.testing.assert_allclose(found[image], np.array(scores) / sum(scores), rtol=1e-9)


def test_one_expert_of_weight_one_is_itself() -> None:
    joint, _, _ = tables(3)
    np.testing.assert_allclose(log_linear_pool(joint[None]), joint, atol=1e-12)
    np.testing.assert_allclose(log_linear_pool(joint[None], np.zeros(1)), 1 / 12)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -0.5], [np.nan, 1.0]])
def test_invalid_weights_are_errors(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weights"):
        log_linear_pool(np.ones((2, 3, 4)) / 4, np.array(weights))


def noisy(seed: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """A joint model that is right on mask and gender and knows little of age, and an age model; with the truth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, images)
    logits = rng.normal(0, 1, (images, 12))
    logits += 3 * (REST.projection(REST)[JOINT.projection(REST)] == JOINT.projection(REST)[labels][:, None])
    years = rng.normal(0, 1, (images, 3)) + 2 * np.eye(3)[JOINT.projection(AGE)[labels]]
    joint, age = (np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for z in (logits, years))
    return np.stack([joint, lift_to_joint(age, JOINT, AGE)]), labels


@pytest.mark.parametrize("seed", range(4))
def test_fitted_exponents_are_the_best_of_a_grid(seed: int) -> None:
    experts, labels = noisy(seed)
    fitted = fit_exponents(experts, labels)
    assert ((fitted >= 0) & (fitted <= 2)).all()
    best = log_loss(log_linear_pool(experts, fitted), labels)
    grid = itertools.product(np.linspace(0, 2, 21), repeat=2)
    assert best <= min(log_loss(log_linear_pool(experts, np.array(weights)), labels) for weights in grid) + 1e-9
    assert best < log_loss(experts[0], labels)
    assert np.array_equal(fit_exponents(experts, labels), fitted)


def test_exponents_stay_within_their_bounds() -> None:
    certain = np.array([[[0.6, 0.4], [0.4, 0.6]], [[0.4, 0.6], [0.6, 0.4]]])
    assert fit_exponents(certain, np.array([0, 1])) == pytest.approx([2, 0], abs=1e-6)
    with pytest.raises(DataError, match="exponents of a joint ensemble: fitting needs validation images"):
        fit_exponents(certain, np.array([0]))
    with pytest.raises(DataError, match="exponents of a joint ensemble: fitting needs validation images"):
        fit_exponents(certain[:, :0], np.zeros(0, dtype=np.int64))


def test_the_original_formula() -> None:
    rng = np.random.default_rng(5)
    logits, (_, _, age) = rng.normal(0, 2, (9, 12)), tables(5)
    found = original_formula(logits, lift_to_joint(age, JOINT, AGE)[None])
    for image in range(9):
        scores = [logits[image, c] * (1 + age[image, AGE.names.index(JOINT.names[c].split("/")[2])]) for c in range(12)]
        shares = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(found[image], shares, rtol=1e-9)
