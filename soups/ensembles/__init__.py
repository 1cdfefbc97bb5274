"""Ensembles: votes on cached probabilities and on prediction tables; no model runs here."""

from soups.ensembles.csv_vote import vote_tables
from soups.ensembles.fit import fit_weights, parse_members
from soups.ensembles.joint import fit_exponents, join_originally, lift
from soups.ensembles.rules import RULES, Rule, normalised, split_hard

__all__ = [
    "RULES",
    "Rule",
    "fit_exponents",
    "fit_weights",
    "join_originally",
    "lift",
    "normalised",
    "parse_members",
    "split_hard",
    "vote_tables",
]
