#!/bin/sh
# Finds a suitable Python, builds a virtual environment and installs the project in it.
#   scripts/setup.sh [DIRECTORY]         (default .venv; PYTHON=... names the interpreter)
#   WITHOUT_OPENFHE=1 scripts/setup.sh   (leaves OpenFHE out where its wheel cannot run)
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}

version() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

if [ -n "${PYTHON:-}" ]; then
    candidates=$PYTHON
else
    # First those that OpenFHE has a wheel for: the one for CPython 3.12 wants glibc 2.38 or
    # newer, the one for 3.10 wants 2.35.
    case "$(getconf GNU_LIBC_VERSION 2>/dev/null || echo none)" in
        "glibc 2.3"[0-7]*) candidates="python3.10" ;;
        *) candidates="python3.12 python3.10" ;;
    esac
    candidates="$candidates $(ls -d "$HOME"/.pyenv/versions/3.10.*/bin/python 2>/dev/null || true)"
    candidates="$candidates python3 python python3.13 python3.11 python3.12"
fi
python=
for candidate in $candidates; do
    case "$(version "$candidate")" in
        3.1[0-3]) python=$candidate; break ;;
    esac
done
if [ -z "$python" ]; then
    echo "error: no suitable Python found: install CPython 3.10 (or 3.12 where glibc is 2.38 or newer; 3.11 and 3.13 run all but encryption) and name it, as in: make setup PYTHON=/usr/bin/python3.10" >&2
    exit 2
fi

case "$(version "$python")" in
    3.10) constraints=constraints/py310.txt ;;
    3.12) constraints=constraints/py312.txt ;;
    3.11) constraints=constraints/py310.txt; lacking=3.11 ;;
    3.13) constraints=constraints/py312.txt; lacking=3.13 ;;
esac
if [ -n "${lacking:-}" ]; then
    echo "note: OpenFHE has no wheel for CPython $lacking, so encrypted arms will not run; CPython 3.10 and 3.12 have one" >&2
fi
rm -rf "$venv"
"$python" -m venv "$venv"
pip="$venv/bin/python -m pip --disable-pip-version-check install --quiet"
if [ -n "${WITHOUT_OPENFHE:-}" ]; then
    # The constraints name every package, so no dependency is left to be resolved.
    grep -v '^openfhe==' "$constraints" >"$venv/requirements.txt"
    $pip --no-deps -r "$venv/requirements.txt"
    $pip --no-deps --editable .
else
    $pip --constraint "$constraints" --editable '.[dev]'
fi
touch "$venv/.installed"
