"""Ensembles: votes on cached probabilities and on prediction tables. No model runs here."""

from soups.ensembles.csv_vote import vote_tables
from soups.ensembles.fit import fit_weights, parse_members
from soups.ensembles.joint import fit_exponents, lift_to_joint, original_formula
from soups.ensembles.rules import RULES, Rule, VotingRule, normalize_weights, split_hard

__all__ = [
    "RULES",
    "Rule",
    "VotingRule",
    "fit_exponents",
    "fit_weights",
    "lift_to_joint",
    "normalize_weights",
    "original_formula",
    "parse_members",
    "split_hard",
    "vote_tables",
]
