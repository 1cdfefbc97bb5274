"""The commands that each version runs, in order. Knows command lines, not the `soups` package."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_EXACT = ("--precision", "fp32", "--threads", "1")
_TRAIN = ("--epochs", "2", "--lr", "3e-3", "--batch-size", "8")
_RANDOM = ("--hparams", "random", "--lr-range", "1e-3", "1e-2", "--epochs-range", "2", "3", "--batch-size", "8")
_TOGETHER = ("uniform", "greedy")  # Recipes that have flags of their own.
_OF_TWO = ("slerp",)  # Recipes that take two ingredients.


@dataclass(frozen=True)
class Step:
    """One command: the script and its arguments."""

    name: str
    arguments: tuple[str, ...]
    interrupt_at: str | None = None
    """SIGTERM as soon as this file of the working folder has a line; the exit code is then 143."""


_REPORT = Step("report", ("main.py", "--name", "toys", "--eval-individual-models", "--report", "--plot"))


def steps_for(toys: Path, recipes: Sequence[str]) -> list[Step]:
    """All steps.

    Args:
        toys: folder of `make_toys`.
        recipes: names of all recipes of the older version.
    """
    return [
        *_pool_steps(toys, recipes),
        *_network_steps(toys),
        *_factor_steps(toys),
        *_foreign_steps(toys),
        *_tool_steps(toys),
        _REPORT,
    ]


def short_steps_for(toys: Path) -> list[Step]:
    """One pool of two models, two soups and one vote."""
    return [
        _step("finetune random", "finetune.py", *_colours(toys, "toys"), *_RANDOM, "--i", "0-1"),
        _step("score and soup", "main.py", "--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report"),
        _step("vote soft", "inference.py", "--soft-voting"),
    ]


def steps_on_old_runs(toys: Path, *, short: bool) -> list[Step]:
    """Steps that the newer version repeats in a copy of the older version's folder: they must change nothing."""
    wanted = {"finetune random", "vote soft", "score and soup" if short else "report"}
    if not short:  # The search comes after the fine-tunes, as in all steps: the run last trained is the same.
        wanted |= {
            "search",
            "predict",
            "vote weighted",
            "validate",
            "finetune mask",
            "predict each",
            "vote joined",
            "score foreign",
        }
    all_steps = short_steps_for(toys) if short else steps_for(toys, ())
    return [step for step in all_steps if step.name in wanted]


def rebuild_step(soups: Sequence[str]) -> Step:
    """Rebuild soups, given by path."""
    return _step("rebuild", "main.py", "--rebuild", *soups)


def _step(name: str, *arguments: str, interrupt_at: str | None = None) -> Step:
    return Step(name, arguments, interrupt_at)


def _colours(toys: Path, name: str) -> tuple[str, ...]:
    data = ("--data-location", str(toys / "colours"), "--group-pattern", r"(p\d+)_", "--val-ratio", "0.5")
    return ("--name", name, *data, "--model", f"local-dir:{toys / 'clip'}", *_EXACT)


def _pool_steps(toys: Path, recipes: Sequence[str]) -> list[Step]:
    train = ("finetune.py", *_colours(toys, "toys"), *_TRAIN)
    interrupted = (*train, "--i", "7", "--loss-fn", "BCEWithLogitsLoss", "--epochs", "80")
    interrupted += ("--lr", "1e-5", "--save-minutes", "0")
    others = [recipe for recipe in recipes if recipe not in (*_TOGETHER, *_OF_TWO)]
    sgd = ("--optimizer", "sgd", "--loss-fn", "FocalLoss", "--augmentation", "base", "--oversample", "red=2")
    lamb = ("--optimizer", "lamb", "--loss-fn", "ContrastiveLoss", "--aug", "rand-m9-n2", "--sampler", "balanced")
    adam = ("--optimizer", "adam", "--loss-fn", "CrossEntropyLoss", "--augmentation", "none", "--class-weights", "auto")
    momentum = ("--optimizer", "momentum", "--loss-fn", "F1Loss", "--augmentation", "randaugment")
    return [
        _step("list recipes", "main.py", "--list-recipes"),
        _step("finetune random", "finetune.py", *_colours(toys, "toys"), *_RANDOM, "--i", "0-2"),
        _step("finetune sgd", *train, "--i", "3", *sgd, "--scheduler", "step", "--decay-epochs", "1"),
        _step("finetune lamb", *train, "--i", "4", *lamb, "--scheduler", "linear", "--mix", "0.4"),
        _step(
            "finetune adam", *train, "--i", "5", *adam, "--lp-epochs", "1", "--patience", "2", "--layer-decay", "0.7"
        ),
        _step(
            "finetune momentum",
            *(*train, "--i", "6", *momentum, "--oversample", "auto", "--oversample-augment", "flip"),
            *("--scheduler", "plateau", "--freeze", "1"),
        ),
        _step("finetune interrupted", *interrupted, interrupt_at="runs/toys/logs/training/toys7.jsonl"),
        _step("finetune resumed", *interrupted),
        _step(
            "score and soup",
            *("main.py", "--name", "toys", "--eval-individual-models", "--uniform-soup", "--greedy-soup", "--report"),
            *("--plot", "--inspect", "--learning-curves"),
        ),
        _step("soups", "main.py", "--name", "toys", "--soup", *others),
        _step("soups of two", "main.py", "--name", "toys", "--soup", *_OF_TWO, "--ingredients", "toys0", "toys1"),
        _step(
            "soup with options",
            *("main.py", "--name", "toys", "--soup", "dare", "--soup-options", "combine=ties", "seed=1"),
            *("--soup-name", "dare_ties"),
        ),
        _step(
            "soup with a budget",
            *("main.py", "--name", "toys", "--soup", "greedy", "--accept", "significant"),
            *("--budget-evaluations", "3", "--soup-name", "budget"),
        ),
        _step("predict", "inference.py", "--name", "toys", "--probabilities"),
        _step("vote soft", "inference.py", "--name", "toys", "--soft-voting"),
        _step(
            "vote soft by shards",
            *("inference.py", "--name", "toys", "--soft-voting", "--normalise", "minmax", "--shard-size", "8"),
            *("--probabilities", "--output", "minmax.csv"),
        ),
        _step("vote hard", "inference.py", "--name", "toys", "--hard-voting"),
        _step("vote weighted", "inference.py", "--name", "toys", "--weighted-ensemble", "--probabilities"),
        _step("validate", "validation.py", "--name", "toys", "--explain"),
    ]


def _network_steps(toys: Path) -> list[Step]:
    networks = ("baseline", f"local-dir:{toys / 'clip'} name=tiny lr=1e-2")
    flags = [*_colours(toys, "nets"), *_TRAIN]
    model = flags.index("--model")
    del flags[model : model + 2]
    return [
        _step("compare networks", "scripts/compare.py", *flags, "--models", *networks, "--seeds", "2"),
        _step(
            "soup of BatchNorm",
            *("main.py", "--name", "nets-baseline", "--uniform-soup", "--batchnorm", "recompute"),
        ),
    ]


def _factor_steps(toys: Path) -> list[Step]:
    data = ("--data-location", str(toys / "faces"), "--model", f"local-dir:{toys / 'clip'}", *_EXACT)
    train = (*data, "--epochs", "3", "--lr", "5e-3", "--batch-size", "16", "--validate-every", "0")
    mask, output = ("--name", "mask"), "runs/mask/output"
    tables = (f"{output}/mask0_epochs3.csv", f"{output}/mask1_epochs3.csv")
    joined = ("inference.py", *mask, "--model-name", "mask_greedy_soup", "--weighted-ensemble", "age0_epochs3")
    explain = ("--model-name", "mask_greedy_soup", "--count", "1", "--ingredients", "1", "--method", "relevance")
    return [
        _step("finetune age", "finetune.py", "--name", "age", *train, "--i", "0", "--target", "age"),
        _step(
            "finetune mask",
            *("finetune.py", *mask, *train, "--i", "0,1", "--old-aug", "True", "--metric", "macro_f1", "--jobs", "2"),
        ),
        _step("soup mask", "main.py", *mask, "--eval-individual-models", "--greedy-soup", "--uniform-soup"),
        _step("predict each", "inference.py", *mask, "--each"),
        _step("vote joined", *joined, "--output", f"{output}/joined.csv"),
        _step("vote joined originally", *joined, "--formula", "original", "--output", f"{output}/original.csv"),
        _step(
            "vote split", "inference.py", *mask, "--hard-voting", *tables, "--split", "--output", f"{output}/split.csv"
        ),
        _step("validate mask", "validation.py", *mask),
        _step(
            "validate tables",
            *("validation.py", *mask, "--ground-truth", str(toys / "faces" / "truth"), "--predictions"),
            *(f"one model={','.join(tables)}", f"joined={output}/joined.csv", f"split={output}/split.csv"),
        ),
        _step("disagreement", "scripts/disagreement.py", *mask, "--on", "test"),
        _step("label errors", "scripts/find_label_errors.py", *mask, "--folds", "2"),
        _step("explain", "scripts/explain.py", *mask, *explain, "--faithfulness", "2"),
        _step("export", "scripts/export.py", *mask, "--format", "torch", "--output", f"{output}/exported.pt2"),
    ]


def _foreign_steps(toys: Path) -> list[Step]:
    flags = _colours(toys, "foreign")
    return [
        _step(
            "score foreign",
            *("main.py", *flags, "--model-location", str(toys / "foreign"), "--eval-individual-models"),
            *("--uniform-soup", "--greedy-soup", "--report"),
        ),
        _step("vote foreign", "inference.py", "--name", "foreign", "--hard-voting"),
    ]


def _tool_steps(toys: Path) -> list[Step]:
    clip = ("--model", f"local-dir:{toys / 'clip'}", *_EXACT)
    pools = ("--pool", str(toys / "pool"), "--target", str(toys / "colours" / "test" / "red"))
    return [
        _step(
            "search",
            *("scripts/search.py", *_colours(toys, "searched"), "--batch-size", "8", "--trials", "3"),
            *("--space", str(toys / "space.yaml"), "--search-sampler", "random"),
        ),
        _step(
            "curate",
            *("scripts/curate.py", *pools, "--count", "6", *clip, "--duplicate-similarity", "0.9999"),
        ),
        _step("show batch", "scripts/show_batch.py", "--name", "toys", "--images", "8"),
        _step(
            "study",
            *("scripts/study.py", "--name", "searched", "--split-seeds", "0-1", "--soup", "uniform", "greedy"),
        ),
    ]
