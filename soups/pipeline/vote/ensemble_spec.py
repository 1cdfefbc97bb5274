"""Who predicts, and how their answers become one: models of one space vote, models of some factors are joined."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.labels import LabelSpace
from soups.core.scores import probabilities
from soups.ensembles import RULES, fit_exponents, fit_weights, lift_to_joint, original_formula, parse_members
from soups.pipeline.run.model_files import find_model
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.score.votes import default_model, vote
from soups.pipeline.settings.commands import InferenceSettings
from soups.pipeline.vote.heldout import heldout_rows

logger = logging.getLogger(__name__)

JOINT, ORIGINAL = "joint", "original"


@dataclass(frozen=True)
class ModelGroup:
    """Models of one space, which speak with one voice."""

    paths: tuple[Path, ...]
    space: LabelSpace
    weights: np.ndarray | None = None
    """(M,) of their weighted mean; None: all alike."""
    exponent: float = 1.0
    """How much it counts where several experts are joined."""


@dataclass(frozen=True)
class Ensemble:
    """Who predicts, and by which rule."""

    rule: str
    """A key of `RULES` for one group of models; `joint` or `original` for several."""
    experts: tuple[ModelGroup, ...]
    space: LabelSpace
    """Of the answer."""
    name: str = field(default="")
    """Of the predictions' file."""

    def count(self, context: RunContext, set_name: str) -> np.ndarray:
        """(N, C) float64: what all say together of a set's images."""
        if self.rule == ORIGINAL:
            main, *others = self.experts
            lifted = [lift_to_joint(_voice(context, expert, set_name), self.space, expert.space) for expert in others]
            logits = context.logits(main.paths[0], [set_name], self.space)[set_name]
            return original_formula(logits, np.stack(lifted))
        if self.rule == JOINT:
            exponents = np.array([expert.exponent for expert in self.experts])
            return RULES[JOINT](_likelihoods(context, self.experts, set_name, self.space), exponents, self.space)
        (expert,) = self.experts
        return vote(context, self.rule, expert.paths, [set_name], expert.weights, expert.space)[set_name]


def build_ensemble(settings: InferenceSettings, context: RunContext, way: str | None) -> Ensemble:
    """What the user asks for.

    Args:
        settings: of `inference.py`.
        context: the run.
        way: `soft_voting`, `weighted_ensemble`, `hard_voting`, or None for a single model.

    Raises:
        UsageError: settings that contradict each other, or a name that is no model.
        DataError: models of classes that do not belong together.
    """
    run, named = context.run, settings.model_name or ()
    if way is None:
        if len(named) > 1:
            raise UsageError(
                f"--model-name: {len(named)} models",
                expected="one, or a way of voting",
                next_step="add --soft-voting, --hard-voting or --weighted-ensemble",
            )
        path = find_model(named[0], run, settings.run) if named else default_model(context)
        space = context.space_of(path)
        return Ensemble("soft", (ModelGroup((path,), space),), space, path.stem)
    rule, words = _rule_and_members(settings, way)
    names, weights = parse_members((*named, *words))
    if weights is not None and not RULES[rule].takes_weights:
        raise UsageError(f"--{way.replace('_', '-')} takes no weights", next_step="use --weighted-ensemble")
    paths = tuple(find_model(name, run, settings.run) for name in names) or tuple(pool_paths(run).values())
    if RULES[rule].flag == "weighted_ensemble":
        return _weighted(context, paths, weights, settings.formula, "weighted_ensemble")
    space = common_space(context, paths)
    return Ensemble(rule, (ModelGroup(paths, space, weights),), space, f"{rule}_voting" if way == "vote" else way)


def _rule_and_members(settings: InferenceSettings, flag: str) -> tuple[str, tuple[str, ...]]:
    """Return the voting rule that a flag selects, and the words that name its members.

    Raises:
        UsageError: `--vote` without a rule, or with one that does not exist.
    """
    words = getattr(settings, flag) or ()
    if flag != "vote":
        rules = (name for name, rule in RULES.items() if rule.flag == flag)
        return next(name for name in rules if _has_options(settings, RULES[name].options)), words
    if not words:
        raise UsageError("--vote without a rule", expected=f"one of {', '.join(RULES)}, then models")
    if words[0] not in RULES:
        raise unknown_name("voting rule", words[0], RULES)
    return words[0], words[1:]


def _has_options(settings: InferenceSettings, options: Mapping[str, Any]) -> bool:
    return all(getattr(settings, name) == value for name, value in options.items())


def build_single_model_ensembles(settings: InferenceSettings, context: RunContext) -> list[Ensemble]:
    """Each model that is named by itself, or each fine-tune of the run.

    Raises:
        UsageError: a name that is no model.
        DataError: a model of classes that are not the data's.
    """
    named = [find_model(name, context.run, settings.run) for name in settings.model_name or ()]
    paths = named or list(pool_paths(context.run).values())
    spaces = [context.space_of(path) for path in paths]
    return [
        Ensemble("soft", (ModelGroup((path,), space),), space, path.stem)
        for path, space in zip(paths, spaces, strict=True)
    ]


def common_space(context: RunContext, paths: Sequence[Path]) -> LabelSpace:
    """The classes that all models tell apart.

    Raises:
        DataError: a model has others than the first; names it.
    """
    spaces = [context.space_of(path) for path in paths]
    for path, space in zip(paths, spaces, strict=True):
        if set(space.names) != set(spaces[0].names):
            raise DataError(
                f"{path}: a model of other classes than {paths[0]}",
                expected=", ".join(spaces[0].names),
                found=", ".join(space.names),
                next_step="models of different factors are joined by --weighted-ensemble",
            )
    return spaces[0]


def _weighted(
    context: RunContext, paths: Sequence[Path], weights: np.ndarray | None, formula: str, name: str
) -> Ensemble:
    """Models of one space averaged, of several joined, with the weights given or fitted on validation."""
    groups = _grouped(context, paths, weights)
    if len(groups) == 1 and formula != ORIGINAL:
        expert = groups[0] if weights is not None else _with_fitted_weights(context, groups[0], required=True)
        return Ensemble("weighted", (expert,), expert.space, name)
    joint = _space_of_all(context, groups)
    if formula == ORIGINAL:
        return Ensemble(ORIGINAL, _main_first(groups, joint, weights), joint, name)
    if weights is None:
        groups = [_with_fitted_weights(context, group) if len(group.paths) > 1 else group for group in groups]
        groups = _with_fitted_exponents(context, groups, joint)
    return Ensemble(JOINT, tuple(groups), joint, name)


def _grouped(context: RunContext, paths: Sequence[Path], weights: np.ndarray | None) -> list[ModelGroup]:
    """The models by their classes, each group an expert that counts as much as its models together."""
    spaces = [context.space_of(path) for path in paths]
    groups: dict[frozenset[str], list[int]] = {}
    for place, space in enumerate(spaces):
        groups.setdefault(frozenset(space.names), []).append(place)
    return [
        ModelGroup(
            tuple(paths[place] for place in places),
            spaces[places[0]],
            None if weights is None or not weights[places].any() else weights[places],
            1.0 if weights is None else float(weights[places].sum()),
        )
        for places in groups.values()
    ]


def _space_of_all(context: RunContext, experts: Sequence[ModelGroup]) -> LabelSpace:
    """The classes that experts of some factors answer together: those of the run, or all that its data has.

    Raises:
        DataError: a factor that no expert knows; names it.
    """
    run = context.run
    joint = run.recorded.joint_space
    known = {factor for expert in experts for factor in expert.space.factor_names}
    if joint is None or set(run.space.factor_names) == known:
        return run.space
    if missing := [name for name in joint.factor_names if name not in known]:
        raise DataError(
            f"no model knows {', '.join(missing)}",
            expected=f"models that together know {', '.join(joint.factor_names)}",
            found="; ".join(f"{e.paths[0].stem} knows {', '.join(e.space.factor_names)}" for e in experts),
            next_step="name one more model",
        )
    return joint


def _main_first(experts: Sequence[ModelGroup], joint: LabelSpace, weights: np.ndarray | None) -> tuple[ModelGroup, ...]:
    main = [expert for expert in experts if set(expert.space.names) == set(joint.names)]
    if len(main) != 1 or len(main[0].paths) != 1 or len(experts) < 2:
        raise UsageError(
            "--formula original joins one model of all factors with models of some",
            expected="--model-name MAIN --weighted-ensemble FACTOR_MODEL …",
            found=f"{sum(len(each.paths) for each in main)} models of all factors, {len(experts) - len(main)} others",
        )
    if weights is not None:
        raise UsageError("--formula original takes no weights", next_step="leave them out, or --formula")
    return (main[0], *(expert for expert in experts if expert is not main[0]))


def _with_fitted_weights(context: RunContext, expert: ModelGroup, required: bool = False) -> ModelGroup:
    """The expert whose models are averaged with convex weights fitted on validation, where that is possible."""
    unseen = heldout_rows(context, expert.paths)
    if unseen is None and required:
        raise DataError(
            f"run {context.run.name!r} has no validation images to fit weights on",
            next_step="give the weights: --weighted-ensemble M=0.6 N=0.4",
        )
    if unseen is None:
        return expert
    members = np.stack([context.probabilities(path, ["val"], expert.space)["val"] for path in expert.paths])
    weights = fit_weights(members[:, unseen], context.labels("val", expert.space)[unseen])
    told = ", ".join(f"{path.stem} {weight:.3f}" for path, weight in zip(expert.paths, weights, strict=True))
    logger.info("weights: %s", told)
    return ModelGroup(expert.paths, expert.space, weights)


def _with_fitted_exponents(context: RunContext, experts: Sequence[ModelGroup], joint: LabelSpace) -> list[ModelGroup]:
    unseen = heldout_rows(context, [path for expert in experts for path in expert.paths])
    if unseen is None:
        logger.warning("every expert counts 1; give weights to change that: --weighted-ensemble M=0.6 …")
        return list(experts)
    table = _likelihoods(context, experts, "val", joint)
    exponents = fit_exponents(table[:, unseen], context.labels("val", joint)[unseen])
    told = ", ".join(f"{expert.paths[0].stem} {w:.3f}" for expert, w in zip(experts, exponents, strict=True))
    logger.info("exponents fitted on %d validation images: %s", int(unseen.sum()), told)
    return [
        ModelGroup(expert.paths, expert.space, expert.weights, float(exponent))
        for expert, exponent in zip(experts, exponents, strict=True)
    ]


def _likelihoods(context: RunContext, experts: Sequence[ModelGroup], set_name: str, joint: LabelSpace) -> np.ndarray:
    return np.stack([lift_to_joint(_voice(context, expert, set_name), joint, expert.space) for expert in experts])


def _voice(context: RunContext, expert: ModelGroup, set_name: str) -> np.ndarray:
    """(N, C) probabilities of an expert, in its own space."""
    if len(expert.paths) == 1:
        return probabilities(context.logits(expert.paths[0], [set_name], expert.space)[set_name])
    return vote(context, "weighted", expert.paths, [set_name], expert.weights, expert.space)[set_name]
