#!/usr/bin/env bash
# Side by side in one run on one throwaway cluster: each contestant in turn, round after round.
# Prints Markdown, and writes it to bench/RESULTS.md.
#   TOKENS=1000000 CLIENTS=2 ROUNDS=5 SECONDS_EACH=5 make bench
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
TOKENS=${TOKENS:-1000000} CLIENTS=${CLIENTS:-2} ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-5}

cluster=$(server_dir bench)
trap 'stop_cluster "$cluster"; rm -rf "$cluster/data" "$(socket_dir "$cluster")"' EXIT
stop_cluster "$cluster"
rm -rf "$cluster/data"
start_cluster "$cluster" shared_buffers=2GB max_wal_size=8GB checkpoint_timeout=1h autovacuum=off
export PGHOST PGUSER=$SUPERUSER PGDATABASE=bench
PGHOST=$(socket_dir "$cluster")
psql=("$BIN/psql" -qXAt -v ON_ERROR_STOP=1)
"${psql[@]}" -d postgres -c "CREATE DATABASE bench"
say "loading $TOKENS tokens" >&2
"${psql[@]}" -v tokens="$TOKENS" -f bench/sql/load.sql

tps() { # SCRIPT SECONDS
    "$BIN/pgbench" -n -M prepared -c "$CLIENTS" -j 2 -T "$2" -D tokens="$TOKENS" -f "$1" 2>/dev/null |
        sed -n 's/^tps = \([0-9]*\).*/\1/p'
}
# Lines of numbers to "min | median | max".
spread() { sort -n | awk '{v[NR]=$1} END {printf "%d | %d | %d", v[1], v[int((NR+1)/2)], v[NR]}'; }
milliseconds() { # SQL, timed by the server's client in one session; the last command counts
    "${psql[@]}" -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9]*\).*/\1/p' | tail -1
}

contestants=$(ls bench/sql/[a-z]-*.sql)
for script in $contestants; do
    tps "$script" 2 >/dev/null
    : >"$cluster/$(basename "$script").tps"
done
for round in $(seq "$ROUNDS"); do
    say "round $round of $ROUNDS" >&2
    for script in $contestants; do
        tps "$script" "$SECONDS_EACH" >>"$cluster/$(basename "$script").tps"
    done
done

report() {
    echo "# Measured by \`make bench\`"
    echo
    echo "$(date -u +%Y-%m-%d), Postgres $("$BIN/postgres" --version | sed 's/.*) //; s/ (.*//'), $(nproc) cores"
    echo "of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $TOKENS tokens, $CLIENTS clients,"
    echo "\`pgbench -M prepared\`, $ROUNDS rounds of $SECONDS_EACH s each, the contestants in turn."
    echo
    echo "| checks a second | min | median | max | of (b) |"
    echo "|---|---|---|---|---|"
    base=$(spread <"$cluster/b-by-hand.sql.tps" | cut -d'|' -f2)
    for script in $contestants; do
        name=$(basename "$script" .sql)
        line=$(spread <"$cluster/$name.sql.tps")
        ratio=$(echo "$line" | cut -d'|' -f2 | awk -v b="$base" '{printf "%.2f", $1 / b}')
        echo "| ($(echo "$name" | cut -d- -f1)) $(echo "$name" | cut -d- -f2- | tr - ' ') | $line | $ratio |"
    done
    echo
    echo "| other work | |"
    echo "|---|---|"
    echo "| api_token_create, $CLIENTS clients | $(tps bench/sql/create.sql 10) a second |"
    echo "| api_token_create in one transaction | $(milliseconds "SELECT count(*) FROM generate_series(1, 10000) i, LATERAL api_token_create('bulk-' || i % 10) c" | awk '{printf "%d", 10000 / $1 * 1000}') a second |"
    "${psql[@]}" -c "INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash, namespace, token_prefix)
        SELECT id, id, now(), now(), sha256(id::text::bytea), CASE WHEN i <= 100000 THEN 'hundred' ELSE 'ten' END, 'sk_...'
        FROM (SELECT i, gen_random_uuid() AS id FROM generate_series(1, 110000) i) t" -c "ANALYZE api_tokens.tokens"
    echo "| api_token_invalidate_all of 100,000 | $(milliseconds "SELECT api_token_invalidate_all('hundred')") ms |"
    echo "| api_token_cleanup of 100,000 among $TOKENS | $(milliseconds "SELECT api_token_cleanup('0')") ms |"
    echo "| api_token_list of a namespace with 10,000 | $(milliseconds "SELECT count(*) FROM api_token_list('ten')") ms |"
    echo "| api_token_list of its first 50 | $(milliseconds "SELECT count(*) FROM api_token_list('ten', max_rows => 50)") ms |"
    in_server="SELECT count(*) FROM generate_series(1, 300000) i, LATERAL api_token_validate('sk_bench_' || i) v"
    milliseconds "$in_server" >/dev/null
    echo "| api_token_validate in the server, per call | $(milliseconds "$in_server" | awk '{printf "%.1f", $1 / 300}') µs |"
}
report | tee bench/RESULTS.md
