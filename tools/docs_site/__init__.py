"""The documentation site: which commands there are, their flags as tables, and pages that are made at build time."""
