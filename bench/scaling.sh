#!/usr/bin/env bash
# Checks a second with 0, 1 and 2 streaming standbys on this machine, and how long after a revocation
# a standby still accepts the token. Writes bench/RESULTS-scaling.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-3} REVOCATIONS=${REVOCATIONS:-200}
CLIENTS=4
TOKENS=100000

cluster=$(server_dir scaling)
remove_cluster "$cluster"
trap 'for n in 1 2; do as_server "$BIN/pg_ctl" -D "$cluster/standby$n" -m immediate stop >/dev/null 2>&1 || true; done; remove_cluster "$cluster"' EXIT
start_cluster "$cluster" shared_preload_libraries=api_tokens max_wal_senders=5 shared_buffers=256MB
socket=$(socket_dir "$cluster")
raw=$cluster/raw.tsv
: >"$raw"
chmod a+rw "$raw"

# sql PORT ARGUMENTS...
sql() { port=$1 && shift && as_server "$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "$socket" -p "$port" -U "$SUPERUSER" -d postgres "$@"; }

say "$TOKENS tokens, and two standbys"
sql 5432 -c "CREATE EXTENSION api_tokens" -c "SELECT count(api_token_import('ns' || i % 100, sha256(('sk_near_' || i)::bytea), 'sk_' || i || '...'))
    FROM generate_series(1, $TOKENS) i" -c "VACUUM (FREEZE, ANALYZE)" >/dev/null
for n in 1 2; do
    as_server "$BIN/pg_basebackup" -h "$socket" -U "$SUPERUSER" -D "$cluster/standby$n" -R -X stream -c fast
    echo "primary_conninfo = 'host=$socket user=$SUPERUSER application_name=standby$n'" >>"$cluster/standby$n/postgresql.auto.conf"
    as_server "$BIN/pg_ctl" -D "$cluster/standby$n" -l "$cluster/standby$n.log" -w -o "-c port=$((5432 + n))" start >/dev/null
done

cat >"$cluster/check.sql" <<SQL
\set i random(1, $TOKENS)
SELECT ok FROM api_token_validate('sk_near_' || :i::text);
SQL
chmod a+r "$cluster/check.sql"

# rate PORTS...: all clients spread over these servers.
rate() {
    for port in "$@"; do
        as_server "$BIN/pgbench" -h "$socket" -p "$port" -U "$SUPERUSER" -n -M prepared -c $((CLIENTS / $#)) -j 2 \
            -f "$cluster/check.sql" -T "$SECONDS_EACH" postgres 2>/dev/null | sed -n 's/^tps = \([0-9]*\).*/\1/p' >"$cluster/tps.$port" &
    done
    wait
    for port in "$@"; do cat "$cluster/tps.$port"; done | awk '{sum += $1} END {print sum}'
}
for round in $(seq 0 "$ROUNDS"); do
    say "round $round of $ROUNDS"
    for ports in "5432" "5433" "5433 5434"; do
        # The round before the first warms up.
        # shellcheck disable=SC2086
        tps=$(rate $ports)
        [ "$round" = 0 ] || printf 'rate\t%s\t%s\n' "$ports" "$tps" >>"$raw"
    done
done

# lag MODE: revokes, and asks a standby until it refuses; microseconds each, by one client's clock.
lag() {
    say "$REVOCATIONS revocations, synchronous_commit = $1"
    python3 bench/lag.py "$BIN/psql" "$socket" "$SUPERUSER" "$REVOCATIONS" "$1" | sed "s/^/lag\t$1\t/" >>"$raw"
}
lag on
sql 5432 -c "ALTER SYSTEM SET synchronous_standby_names = 'FIRST 2 (standby1, standby2)'" -c "SELECT pg_reload_conf()" >/dev/null
lag remote_apply

python3 bench/scaling_report.py "$raw" "$CLIENTS" >bench/RESULTS-scaling.md
cat bench/RESULTS-scaling.md
