"""Backbone trial: build, train, load, soup, vote and explain every backbone once."""
