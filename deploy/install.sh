#!/bin/sh
# Install Driftward into a new environment, every version as constraints.txt pins it.
#
#   deploy/install.sh /opt/driftward-0.1.0                    # from a registry
#   WHEELHOUSE=deploy/wheelhouse deploy/install.sh /opt/driftward-0.1.0   # without any network
#
# PYTHON is the interpreter that the environment is made of. TORCH_INDEX is where torch is built
# without CUDA; empty, it comes from where everything else does.
set -eu

target=${1:?usage: deploy/install.sh TARGET}
source=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

if [ -e "$target/bin/driftward" ]; then
    echo "$target holds a Driftward already: install beside it, and let the link /opt/driftward point there" >&2
    exit 1
fi
if [ -n "${WHEELHOUSE:-}" ]; then
    set -- --no-index --find-links "$(cd "$WHEELHOUSE" && pwd)"
    torch_index=
else
    set --
fi

# What builds the wheel is not part of what is installed.
builder=$(mktemp -d)
trap 'rm -rf "$builder"' EXIT
"$python" -m venv "$builder/environment"
"$builder/environment/bin/python" -m pip install --quiet "$@" \
    --constraint "$source/constraints.txt" hatchling
(cd "$source" && "$builder/environment/bin/python" -m hatchling build -t wheel -d "$builder")

"$python" -m venv "$target"
if [ -n "$torch_index" ]; then
    "$target/bin/python" -m pip install --quiet --no-deps --index-url "$torch_index" \
        "$(grep '^torch==' "$source/constraints.txt")"
fi
"$target/bin/python" -m pip install --quiet "$@" \
    --constraint "$source/constraints.txt" "$builder"/driftward-*.whl
"$target/bin/python" -m pip check
"$target/bin/driftward" --help >/dev/null
echo "Driftward is installed in $target: $target/bin/driftward doctor looks at a home"
