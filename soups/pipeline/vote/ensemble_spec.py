"""Builds the ensemble that a command requests: models of one label space vote; models of some factors are joined."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from soups.core.errors import DataError, UsageError, unknown_name
from soups.core.labels import LabelSpace
from soups.ensembles import RULES, fit_exponents, fit_weights, lift_to_joint, original_formula, parse_members
from soups.pipeline.run.model_files import find_model
from soups.pipeline.score.choice import default_answer
from soups.pipeline.score.context import RunContext
from soups.pipeline.score.evaluate import pool_paths
from soups.pipeline.score.votes import vote
from soups.pipeline.settings.commands import InferenceSettings
from soups.pipeline.vote.heldout import heldout_rows

logger = logging.getLogger(__name__)

JOINT, ORIGINAL = "joint", "original"


@dataclass(frozen=True)
class ModelGroup:
    """Models of one label space that vote as one member of an ensemble."""

    paths: tuple[Path, ...]
    space: LabelSpace
    weights: np.ndarray | None = None
    """(M,) weights of their mean; None: equal."""
    exponent: float = 1.0
    """Exponent of the group where several groups are joined."""


@dataclass(frozen=True)
class Ensemble:
    """The models that predict, and the voting rule."""

    rule: str
    """A key of `RULES` for one group of models; `joint` or `original` for several."""
    groups: tuple[ModelGroup, ...]
    space: LabelSpace
    """Label space of the prediction."""
    name: str
    """File name of the predictions, without ending."""

    @property
    def models(self) -> dict[Path, LabelSpace]:
        """File → label space of each model."""
        return {path: group.space for group in self.groups for path in group.paths}

    def scores(self, context: RunContext, set_name: str) -> np.ndarray:
        """Return (N, C) float64 scores of the ensemble on a set of images."""
        if self.rule == ORIGINAL:
            main, *others = self.groups
            logits = context.logits(main.paths[0], [set_name], self.space)[set_name]
            return original_formula(logits, _likelihoods(context, others, set_name, self.space))
        if self.rule == JOINT:
            exponents = np.array([group.exponent for group in self.groups])
            return RULES[JOINT](_likelihoods(context, self.groups, set_name, self.space), exponents, self.space)
        (group,) = self.groups
        return vote(context, self.rule, group.paths, [set_name], group.weights, group.space)[set_name]


def build_ensembles(settings: InferenceSettings, context: RunContext, way: str | None) -> list[Ensemble]:
    """Return the ensemble that the settings request; with `--each`, one for each model.

    Args:
        settings: settings of `inference.py`.
        context: the run.
        way: `soft_voting`, `weighted_ensemble`, `hard_voting`, `vote`, or None for single models.

    Raises:
        UsageError: contradicting settings, or a name that matches no model.
        DataError: models with incompatible classes.
    """
    run, named = context.run, settings.model_name or ()
    if way is None:
        if len(named) > 1 and not settings.each:
            raise UsageError(
                f"--model-name: {len(named)} models",
                expected="one, or a way of voting",
                next_step="add --soft-voting, --hard-voting or --weighted-ensemble",
            )
        if not named and not settings.each:
            answer = default_answer(context)
            space = common_space(context, answer.paths)
            return [Ensemble(answer.rule, (ModelGroup(answer.paths, space, answer.weights),), space, answer.name)]
        models = [find_model(name, run, settings.run) for name in named] or list(pool_paths(run).values())
        groups = [ModelGroup((path,), context.space_of(path)) for path in models]
        return [Ensemble("soft", (group,), group.space, group.paths[0].stem) for group in groups]
    rule, words = rule_and_members(settings, way)
    names, weights = parse_members((*named, *words))
    if weights is not None and not RULES[rule].takes_weights:
        raise UsageError(f"--{way.replace('_', '-')} takes no weights", next_step="use --weighted-ensemble")
    paths = tuple(find_model(name, run, settings.run) for name in names) or tuple(pool_paths(run).values())
    if RULES[rule].flag == "weighted_ensemble":
        return [_build_weighted(context, paths, weights, settings.formula)]
    space = common_space(context, paths)
    return [Ensemble(rule, (ModelGroup(paths, space, weights),), space, f"{rule}_voting" if way == "vote" else way)]


def rule_and_members(settings: InferenceSettings, flag: str) -> tuple[str, tuple[str, ...]]:
    """Return the voting rule that a flag selects, and the words that name its members.

    Raises:
        UsageError: `--vote` without a rule, or with one that does not exist.
    """
    words = getattr(settings, flag) or ()
    if flag != "vote":
        for name, rule in RULES.items():
            if rule.flag == flag and all(getattr(settings, key) == value for key, value in rule.options.items()):
                return name, words
    if not words:
        raise UsageError("--vote without a rule", expected=f"one of {', '.join(RULES)}, then models")
    if words[0] not in RULES:
        raise unknown_name("voting rule", words[0], RULES)
    return words[0], words[1:]


def common_space(context: RunContext, paths: Sequence[Path]) -> LabelSpace:
    """Return the label space that all models share.

    Raises:
        DataError: a model has other classes than the first; names it.
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


def _build_weighted(context: RunContext, paths: Sequence[Path], weights: np.ndarray | None, formula: str) -> Ensemble:
    """Average models of one space, join several spaces; weights are given or fitted on validation."""
    name = "weighted_ensemble"
    groups = _group_by_space(context, paths, weights)
    if len(groups) == 1 and formula != ORIGINAL:
        group = groups[0] if weights is not None else _with_fitted_weights(context, groups[0], required=True)
        return Ensemble("weighted", (group,), group.space, name)
    joint = _joint_space(context, groups)
    if formula == ORIGINAL:
        return Ensemble(ORIGINAL, _put_joint_model_first(groups, joint, weights), joint, name)
    if weights is None:
        groups = [_with_fitted_weights(context, group) if len(group.paths) > 1 else group for group in groups]
        groups = _with_fitted_exponents(context, groups, joint)
    return Ensemble(JOINT, tuple(groups), joint, name)


def _group_by_space(context: RunContext, paths: Sequence[Path], weights: np.ndarray | None) -> list[ModelGroup]:
    """Group the models by label space; the weight of a group is the sum of its models' weights."""
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


def _joint_space(context: RunContext, groups: Sequence[ModelGroup]) -> LabelSpace:
    """Return the joint label space of groups for some factors: that of the run, or all factors of its data.

    Raises:
        DataError: no group predicts a factor; names it.
    """
    run = context.run
    joint = run.recorded.joint_space
    known = {factor for group in groups for factor in group.space.factor_names}
    if joint is None or set(run.space.factor_names) == known:
        return run.space
    if missing := [name for name in joint.factor_names if name not in known]:
        raise DataError(
            f"no model knows {', '.join(missing)}",
            expected=f"models that together know {', '.join(joint.factor_names)}",
            found="; ".join(f"{each.paths[0].stem} knows {', '.join(each.space.factor_names)}" for each in groups),
            next_step="name one more model",
        )
    return joint


def _put_joint_model_first(
    groups: Sequence[ModelGroup], joint: LabelSpace, weights: np.ndarray | None
) -> tuple[ModelGroup, ...]:
    main = [group for group in groups if set(group.space.names) == set(joint.names)]
    if len(main) != 1 or len(main[0].paths) != 1 or len(groups) < 2:
        raise UsageError(
            "--formula original joins one model of all factors with models of some",
            expected="--model-name MAIN --weighted-ensemble FACTOR_MODEL …",
            found=f"{sum(len(each.paths) for each in main)} models of all factors, {len(groups) - len(main)} others",
        )
    if weights is not None:
        raise UsageError("--formula original takes no weights", next_step="leave them out, or --formula")
    return (main[0], *(group for group in groups if group is not main[0]))


def _with_fitted_weights(context: RunContext, group: ModelGroup, required: bool = False) -> ModelGroup:
    """Return the group with convex weights fitted on validation, where that is possible."""
    heldout = heldout_rows(context, group.paths)
    if heldout is None:
        if not required:
            return group
        raise DataError(
            f"run {context.run.name!r} has no validation images to fit weights on",
            next_step="give the weights: --weighted-ensemble M=0.6 N=0.4",
        )
    members = np.stack([context.probabilities(path, ["val"], group.space)["val"] for path in group.paths])
    weights = fit_weights(members[:, heldout], context.labels("val", group.space)[heldout])
    text = ", ".join(f"{path.stem} {weight:.3f}" for path, weight in zip(group.paths, weights, strict=True))
    logger.info("weights: %s", text)
    return replace(group, weights=weights)


def _with_fitted_exponents(context: RunContext, groups: Sequence[ModelGroup], joint: LabelSpace) -> list[ModelGroup]:
    heldout = heldout_rows(context, [path for group in groups for path in group.paths])
    if heldout is None:
        message = "every group of models has the exponent 1; give weights to change that: --weighted-ensemble M=0.6 …"
        logger.warning(message)
        return list(groups)
    table = _likelihoods(context, groups, "val", joint)
    exponents = fit_exponents(table[:, heldout], context.labels("val", joint)[heldout])
    text = ", ".join(f"{group.paths[0].stem} {w:.3f}" for group, w in zip(groups, exponents, strict=True))
    logger.info("exponents fitted on %d validation images: %s", int(heldout.sum()), text)
    return [replace(group, exponent=float(exponent)) for group, exponent in zip(groups, exponents, strict=True)]


def _likelihoods(context: RunContext, groups: Sequence[ModelGroup], set_name: str, joint: LabelSpace) -> np.ndarray:
    """Return (G, N, C) probabilities of the groups, as likelihoods of the classes of `joint`."""
    lifted = []
    for group in groups:
        if len(group.paths) == 1:
            own = context.probabilities(group.paths[0], [set_name], group.space)
        else:
            own = vote(context, "weighted", group.paths, [set_name], group.weights, group.space)
        lifted.append(lift_to_joint(own[set_name], joint, group.space))
    return np.stack(lifted)
