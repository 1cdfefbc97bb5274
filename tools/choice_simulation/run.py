"""The script `simulate_choice.py`: trains the pools, draws validation images, and prints what each rule is worth."""

import logging
from typing import Any

import pandas as pd
import torch

from soups.cli.flags import ParsedSettings
from soups.core.errors import unknown_name
from soups.files.atomic import compact_json, fingerprint, make_folder, write_table, write_text
from soups.files.jsonl import read_records
from tools.choice_simulation.draws import VERSION, run_draw
from tools.choice_simulation.features import load_features
from tools.choice_simulation.fine_tunes import KINDS, train_pool
from tools.choice_simulation.report import COLUMNS, PoolScores, format_pools, format_tables, summarize
from tools.choice_simulation.settings import SimulationSettings
from tools.choice_simulation.subsets import Subsets

logger = logging.getLogger(f"soups.{__name__}")


def simulate(parsed: ParsedSettings[SimulationSettings]) -> None:
    """Train the pools and make the draws that are missing; print the tables and write them as CSV.

    Raises:
        UsageError: an unknown kind of pool.
        DataError: the images or the start do not fit.
    """
    settings = parsed.settings
    for kind in settings.pools or ():
        if kind not in KINDS:
            raise unknown_name("kind of pool", kind, KINDS)
    torch.set_num_threads(1)
    features, start = load_features(settings)
    kinds = {kind: KINDS[kind].description for kind in settings.pools or KINDS}
    pools: list[PoolScores] = []
    records: list[dict[str, Any]] = []
    for number in range(settings.repeats):
        for kind in kinds:
            name = f"{kind}-{number}"
            folder = settings.output / "pools" / name
            train_pool(kind, number, settings.models, settings.seed, features, start, folder)
            subsets = Subsets(folder, start, features.test, features.test_labels)
            records += [{"pool": name, **record} for record in _draw(settings, subsets, number)]
            singles = tuple(float(subsets.correct(1 << index).mean()) for index in range(subsets.models))
            pools.append(PoolScores(name, singles, float(subsets.correct((1 << subsets.models) - 1).mean())))
    draws = pd.DataFrame(records, columns=COLUMNS)
    write_table(settings.output / "rules.csv", summarize(draws, ("pool", "images", "rule")))
    print(format_pools(pools, kinds), format_tables(draws, kinds), sep="\n\n")


def _draw(settings: SimulationSettings, subsets: Subsets, number: int) -> list[dict[str, Any]]:
    """Return the records of all draws of a pool; those of a size are kept in a JSONL file when they are complete."""
    records = []
    for images in settings.sizes:
        key = fingerprint([settings.model_dump(mode="json", include={"models", "draws", "folds", "seed"}), VERSION])
        path = subsets.folder / "draws" / f"{images}_{key[:8]}.jsonl"
        if not path.exists():
            logger.info("%s: %d draws of %d validation images", subsets.folder.name, settings.draws, images)
            seeds = ([settings.seed, number, images, draw] for draw in range(settings.draws))
            results = [run_draw(subsets, images, settings.folds, seed) for seed in seeds]
            lines = [
                compact_json({"images": images, "draw": draw, "rule": rule, **scores})
                for draw, rules in enumerate(results)
                for rule, scores in rules.items()
            ]
            make_folder(path.parent)
            write_text(path, "\n".join(lines) + "\n")
        records += read_records(path)
    return records
