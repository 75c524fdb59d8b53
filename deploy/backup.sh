#!/bin/sh
# Copy a home while Driftward runs, so that the copy is whole.
#
#   deploy/backup.sh /var/lib/driftward/home /backup/driftward-2026-03-02
#
# Run it as the home's owner or as root, and never while `driftward key rotate` runs. PYTHON is that of
# the environment that Driftward is installed in.
set -eu

home=${1:?usage: deploy/backup.sh HOME TARGET}
target=${2:?usage: deploy/backup.sh HOME TARGET}
python=${PYTHON:-/opt/driftward/bin/python}
umask 077

if [ ! -f "$home/driftward.db" ]; then
    echo "$home has no driftward.db: name a home whose database lies in it" >&2
    exit 1
fi
if [ -e "$target" ]; then
    echo "$target exists already: name a new folder" >&2
    exit 1
fi
mkdir -p "$target.unfinished/work" "$target.unfinished/mlflow"

# A snapshot of each database, whoever writes to it meanwhile.
snapshot() {
    "$python" - "$1" "$2" <<'PYTHON'
import sys
from contextlib import closing

from registry.database import safe_sqlite

source, target = sys.argv[1:]
sqlite = safe_sqlite()
with closing(sqlite.connect(f"file:{source}?mode=ro", uri=True)) as read:
    with closing(sqlite.connect(target)) as written:
        read.backup(written)
PYTHON
}

# Ours first: a file is stored before a row speaks of it, so whatever this snapshot speaks of is among
# the files that are copied after it.
snapshot "$home/driftward.db" "$target.unfinished/driftward.db"
if [ -f "$home/mlflow/mlflow.db" ]; then
    snapshot "$home/mlflow/mlflow.db" "$target.unfinished/mlflow/mlflow.db"
fi
for name in mlflow/artifacts vault profiles quarantine keys receiver.yaml; do
    if [ -e "$home/$name" ]; then
        cp -a "$home/$name" "$target.unfinished/$name"
    fi
done
# Anybody but root owns what they wrote already.
if [ "$(id -u)" = 0 ]; then
    chown -R --reference="$home" "$target.unfinished"
fi
sync -f "$target.unfinished"
mv "$target.unfinished" "$target"
echo "$target is whole; keep it as safe as the home: it holds the keys"
