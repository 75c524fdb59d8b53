#!/bin/sh
# Fetch every wheel that deploy/install.sh needs, on a machine with a registry, for one without.
#
#   deploy/wheelhouse.sh [FOLDER]       # by default deploy/wheelhouse
#
# Run it with the Python version and on the processor of the machine that it is for. TORCH_INDEX as
# in deploy/install.sh. SHA256SUMS tells after the transfer whether all of it arrived.
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$source/deploy/wheelhouse}
python=${PYTHON:-python3}
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

mkdir -p "$folder"
builder=$(mktemp -d)
trap 'rm -rf "$builder"' EXIT
"$python" -m venv "$builder/environment"
pip="$builder/environment/bin/python -m pip"
$pip install --quiet --constraint "$source/constraints.txt" hatchling
(cd "$source" && "$builder/environment/bin/python" -m hatchling build -t wheel -d "$builder")

if [ -n "$torch_index" ]; then
    $pip download --quiet --no-deps --dest "$folder" --index-url "$torch_index" \
        "$(grep '^torch==' "$source/constraints.txt")"
fi
# Wheels alone: the machine without a registry may have no compiler either.
$pip download --quiet --only-binary :all: --dest "$folder" --find-links "$folder" \
    --constraint "$source/constraints.txt" hatchling "$builder"/driftward-*.whl
# install.sh builds this one from the source that it stands beside.
rm -f "$folder"/driftward-*.whl
(cd "$folder" && sha256sum ./*.whl > SHA256SUMS)
echo "$(ls "$folder"/*.whl | wc -l) wheels in $folder; there: sha256sum --check SHA256SUMS"
