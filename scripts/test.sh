#!/usr/bin/env bash
# Every check: format, lint, types, order of imports, tests. Sets itself up where nothing is installed.
#   bash scripts/test.sh             the first tier, at most 12 minutes on two quiet cores
#   bash scripts/test.sh --all       also the second tier: servers, clusters, other frameworks, example scripts, the site
#   bash scripts/test.sh tests/core  further words go to pytest
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --all ]; then
    shift
    export SOUPS_ALL=1
    source scripts/setup.sh all
else
    source scripts/setup.sh test
fi

ruff format --check .
ruff check .
mypy
lint-imports
# Two processes of one thread each: more threads than cores make everything slower.
# An environment of one's own may hold other plugins, whose warnings would be errors here.
PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 OMP_NUM_THREADS=1 python -m pytest -p xdist -n 2 "$@"
