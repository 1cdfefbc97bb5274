#!/usr/bin/env bash
# Every check there is: format, lint, types, floors, tests. Sets itself up where nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup.sh test

ruff format --check .
ruff check .
mypy
lint-imports
python -m pytest -n 2 "$@"
