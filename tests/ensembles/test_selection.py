"""Ensemble selection against the same search on whole tables."""

import numpy as np
import pytest

from soups.core.errors import DataError
from soups.core.metrics import METRICS, Metric
from soups.core.scores import log_loss
from soups.ensembles.selection import select_models


def random_case(seed: int, models: int, images: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    tables = rng.dirichlet(np.full(classes, 0.7), size=(models, images))
    tables[:, np.arange(images), labels] += rng.uniform(0, 1, models)[:, None] * rng.random(images)
    return tables / tables.sum(axis=2, keepdims=True), labels


def select(tables: np.ndarray, labels: np.ndarray, metric: Metric, rounds: int) -> np.ndarray:
    return select_models([lambda table=table: table for table in tables], labels, metric, rounds)


def reference(tables: np.ndarray, labels: np.ndarray, metric: Metric, rounds: int) -> np.ndarray:
    """Every ensemble's table made anew, and scored by the metric itself."""

    def merit(members: list[int]) -> tuple[float, float]:
        mean = sum(tables[member] for member in members) / len(members)
        return round(metric.score(mean, labels), 12), -round(log_loss(mean, labels), 12)

    models = range(len(tables))
    order = sorted(models, key=lambda model: merit([model]), reverse=True)
    members = max((order[: size + 1] for size in models), key=merit)
    path = [members]
    for _ in range(rounds):
        path.append(max((path[-1] + [model] for model in models), key=merit))
    return np.bincount(max(path, key=merit), minlength=len(tables))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("seed", range(4))
def test_the_same_counts_as_by_whole_tables(metric: Metric, seed: int) -> None:
    tables, labels = random_case(seed, models=5, classes=3 + seed)
    counts = select(tables, labels, metric, rounds=12)
    assert counts.dtype == np.int64
    assert counts.tolist() == reference(tables, labels, metric, rounds=12).tolist()


def test_random_pools_with_equal_models_and_small_sets() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        tables, labels = random_case(seed, models=int(rng.integers(1, 6)), images=int(rng.integers(1, 25)))
        tables = tables[rng.integers(0, len(tables), len(tables))]  # Some are the same model twice.
        found = select(tables, labels, METRICS["accuracy"], rounds=6)
        assert found.tolist() == reference(tables, labels, METRICS["accuracy"], rounds=6).tolist()


@pytest.mark.parametrize("name", ["accuracy", "log_loss"])
def test_never_worse_than_the_best_single_model_or_the_vote_of_all(name: str) -> None:
    metric = METRICS[name]
    for seed in range(5):
        tables, labels = random_case(seed, models=12, images=200)
        counts = select(tables, labels, metric, rounds=50)
        score = metric.score(np.tensordot(counts / counts.sum(), tables, axes=1), labels)
        assert score >= max(metric.score(table, labels) for table in [*tables, tables.mean(axis=0)]) - 1e-12


def test_a_perfect_model_is_selected_alone() -> None:
    labels = np.arange(30) % 3
    tables = np.stack([np.full((30, 3), 1 / 3), np.eye(3)[labels], np.eye(3)[(labels + 1) % 3]])
    assert select(tables, labels, METRICS["accuracy"], 10).tolist() == [0, 1, 0]
    assert select(tables[:1], labels, METRICS["accuracy"], 10).tolist() == [1]


def test_each_table_is_loaded_twice_and_one_at_a_time() -> None:
    tables, labels = random_case(0, models=4)
    asked: list[int] = []

    def load(model: int) -> np.ndarray:
        asked.append(model)
        return tables[model]

    loads = [lambda model=model: load(model) for model in range(4)]
    select_models(loads, labels, METRICS["accuracy"])
    assert asked == [0, 1, 2, 3] * 2


def test_mismatched_shapes_are_errors() -> None:
    tables, labels = random_case(0, models=2)
    with pytest.raises(
        DataError, match=r"model 1 \(counted from 0\): the shape does not match(?s:.*)60 images(?s:.*)\(59, 4\)"
    ):
        select_models([lambda: tables[0], lambda: tables[1][:59]], labels, METRICS["accuracy"])
    with pytest.raises(DataError, match=r"ensemble selection: no data(?s:.*)0 models"):
        select_models([], labels, METRICS["accuracy"])


def test_a_metric_without_a_vote_score_is_scored_on_whole_tables() -> None:
    tables, labels = random_case(3, 5)
    for metric in METRICS.values():
        slow = Metric(metric.name, metric.function, metric.higher_is_better)
        assert select(tables, labels, slow, rounds=6).tolist() == select(tables, labels, metric, rounds=6).tolist()
