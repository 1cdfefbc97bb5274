"""Ensembles: votes on cached probabilities and on prediction tables. No model runs here."""

from soups.ensembles.csv_vote import vote_tables
from soups.ensembles.fit import fit_weights, parse_members
from soups.ensembles.joint import fit_exponents, lift_to_joint, original_formula
from soups.ensembles.rules import RULES, Rule, VotingRule

__all__ = [
    "RULES",
    "Rule",
    "VotingRule",
    "fit_exponents",
    "fit_weights",
    "lift_to_joint",
    "original_formula",
    "parse_members",
    "vote_tables",
]
