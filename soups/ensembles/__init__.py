"""Ensembles: votes on cached probabilities and on prediction tables; no model runs here."""

from soups.ensembles.csv_vote import vote_tables
from soups.ensembles.fit import fit_weights, parse_members
from soups.ensembles.rules import RULES, Rule, normalised

__all__ = ["RULES", "Rule", "fit_weights", "normalised", "parse_members", "vote_tables"]
