"""Compares what two versions of the repository compute on toy data, through their command lines alone."""
