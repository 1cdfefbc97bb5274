"""Ensembles: votes on cached probabilities and on prediction tables. No model runs here."""

from soups.ensembles.csv_vote import MAJORITIES, combine_tables, vote_tables
from soups.ensembles.fit import fit_weights, parse_members, split_member
from soups.ensembles.joint import fit_exponents, lift_to_joint, original_formula
from soups.ensembles.rules import RULES, Rule, VotingRule

__all__ = [
    "MAJORITIES",
    "RULES",
    "Rule",
    "VotingRule",
    "combine_tables",
    "fit_exponents",
    "fit_weights",
    "lift_to_joint",
    "original_formula",
    "parse_members",
    "split_member",
    "vote_tables",
]
