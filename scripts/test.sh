#!/usr/bin/env bash
# Every check there is: format, lint, types, floors, tests. Sets itself up where nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh test

ruff format --check .
ruff check .
mypy
lint-imports
# Two processes of one thread each: more threads than cores make everything slower.
# An environment of one's own may hold other plugins, whose warnings would be errors here.
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 python -m pytest -p xdist -n 2 "$@"
