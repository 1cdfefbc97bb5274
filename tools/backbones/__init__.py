"""A trial of every backbone: build, train, load, soup, vote, explain."""
