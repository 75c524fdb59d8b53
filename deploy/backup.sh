#!/bin/sh
# Copy a home while Driftward runs, so that the copy is whole.
#
#   deploy/backup.sh /var/lib/driftward/home /backup/driftward-2026-03-02
#
# Run it as the home's owner or as root, and never while `driftward key rotate` runs. PYTHON is that of
# the environment that Driftward is installed in. Where DRIFTWARD_DATABASE_URL names PostgreSQL, it is dumped
# by `pg_dump`, which must be as new as the server.
set -eu

home=${1:?usage: deploy/backup.sh HOME TARGET}
target=${2:?usage: deploy/backup.sh HOME TARGET}
python=${PYTHON:-/opt/driftward/bin/python}
umask 077

if [ -n "${DRIFTWARD_DATABASE_URL:-}" ]; then
    there=$home/keys/pseudonyms.key
else
    there=$home/driftward.db
fi
if [ ! -f "$there" ]; then
    echo "$home has no ${there#"$home/"}: name a home whose database lies in it" >&2
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
if [ -n "${DRIFTWARD_DATABASE_URL:-}" ]; then
    # By libpq's variables, and not by arguments: whoever lists processes must not read a password.
    "$python" - "$target.unfinished/driftward.dump" <<'PYTHON'
import os
import sys

from sqlalchemy import make_url

url = make_url(os.environ["DRIFTWARD_DATABASE_URL"])
said = {
    "PGHOST": url.host,
    "PGPORT": url.port,
    "PGUSER": url.username,
    "PGPASSWORD": url.password,
    "PGDATABASE": url.database,
    "PGSSLMODE": url.query.get("sslmode"),
    "PGSSLROOTCERT": url.query.get("sslrootcert"),
}
known = {name: str(value) for name, value in said.items() if value is not None}
dump = ["pg_dump", "--format=custom", f"--file={sys.argv[1]}"]
os.execvpe(dump[0], dump, os.environ | known)
PYTHON
else
    snapshot "$home/driftward.db" "$target.unfinished/driftward.db"
fi
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
