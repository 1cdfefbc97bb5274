# Sourced by training.sh and scripts/test.sh: leaves `python` with all that pyproject.toml asks for.
#   source scripts/setup.sh ""       what the toolkit needs, with the extra `recommended`
#   source scripts/setup.sh test     also what the first tier of its checks needs
#   source scripts/setup.sh all      also what all checks need
# An active environment that has the packages is used as it is; else .venv is, and is made where it is missing.

soups_has_packages() { # PYTHON [EXTRA]
    "$1" - "${2:-}" <<'PYTHON' >/dev/null 2>&1
import re, sys, tomllib
from importlib.metadata import version

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]


def expanded(requirements):
    for requirement in requirements:
        own = re.fullmatch(r"soups\[(.*)\]", requirement)
        yield from expanded(sum((extras[name] for name in own[1].split(",")), [])) if own else [requirement]


for requirement in expanded(project["dependencies"] + (extras[sys.argv[1]] if sys.argv[1] else [])):
    version(re.match(r"[\w.-]+", requirement)[0])
PYTHON
}

soups_activate() {
    if [ -f .venv/bin/activate ]; then . .venv/bin/activate; else . .venv/Scripts/activate; fi
    # A .venv that was moved activates a folder that is gone, and pip would then install into the system's Python.
    python -c 'import os, sys; sys.exit(not os.path.samefile(sys.prefix, ".venv"))' >/dev/null 2>&1
}

soups_find_python() {
    local candidate
    for candidate in python3 python python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python of version 3.11 or newer was found; install one and run this again" >&2
    return 4
}

soups_make_venv() {
    local python
    python="$(soups_find_python)" || return
    echo "setting up .venv, once (PyTorch alone is some 5 GB to fetch)" >&2
    "$python" -m venv --clear .venv || {
        echo "error: $python could not make .venv (on Debian and Ubuntu: apt install python3-venv)" >&2
        return 4
    }
    soups_activate || {
        echo "error: .venv could not be activated; remove it and run this again" >&2
        return 4
    }
}

soups_set_up() { # [EXTRA]
    local extra="${1:-recommended}" made=.venv/constraints.txt
    if soups_has_packages python "$extra"; then
        return
    fi
    if [ ! -d .venv ] || ! soups_activate; then
        soups_make_venv || return
    fi
    if cmp -s constraints.txt "$made" && soups_has_packages python "$extra"; then
        return
    fi
    python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extra:+[$extra]}" || {
        echo "error: the packages could not be installed; see pip's message above and run this again" >&2
        return 4
    }
    cp constraints.txt "$made"
}

export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
soups_set_up "$@"
