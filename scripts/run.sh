#!/usr/bin/env bash
# Starts a throwaway cluster, walks through the features with their real output, and leaves the
# server up.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

cluster=$(server_dir cluster)
say "starting a throwaway cluster of Postgres $PG_MAJOR in $cluster"
make_key_file "$cluster/vault.keys"
start_cluster "$cluster" fsync=off api_tokens.vault_key_file="'$cluster/vault.keys'"
socket=$(socket_dir "$cluster")
psql=("$BIN/psql" -X -h "$socket" -U "$SUPERUSER" -d demo)
"$BIN/psql" -qX -h "$socket" -U "$SUPERUSER" -d postgres -v ON_ERROR_STOP=1 \
    -c "DROP DATABASE IF EXISTS demo WITH (FORCE)" -c "CREATE DATABASE demo" 2>/dev/null

"${psql[@]}" -q -v ON_ERROR_STOP=1 -f scripts/tour.sql

cat <<EOF

== the server stays up; look around with
   ${psql[*]}
== and end it with: make stop
EOF
if [ -t 0 ] && [ -t 1 ]; then
    exec "${psql[@]}"
fi
