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
OMP_NUM_THREADS=1 python -m pytest -n 2 "$@"
