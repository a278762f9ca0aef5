#!/usr/bin/env bash
# Installs what only the tests need: PgBouncer and pg_cron from Debian, and the packages of the
# examples in Python and Node, below target/ and examples/. Quick when everything is there.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/debian.sh

missing=
[ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
# Debian has pg_cron for its own Postgres; with the servers of the wheel it is not tested.
[ -z "$(debian_major "$BIN/pg_config")" ] || has_library pg_cron || missing="$missing postgresql-$PG_MAJOR-cron"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
command -v npm >/dev/null || missing="$missing npm"
# shellcheck disable=SC2086
[ -z "$missing" ] || scripts/need.sh $missing

# is_older MADE FROM: must what was made from this file be made again?
is_older() { [ ! -e "$1" ] || [ "$2" -nt "$1" ]; }

venv=target/examples-venv
if is_older "$venv/ready" examples/requirements.txt; then
    say "installing the Python packages of the examples"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r examples/requirements.txt
    touch "$venv/ready"
fi
if is_older examples/node_modules/ready examples/package-lock.json; then
    say "installing the Node packages of the examples"
    (cd examples && npm ci --silent --no-audit --no-fund)
    touch examples/node_modules/ready
fi
