# Single measurements. Sourced by run.sh.

# Where each contestant runs, and its script. (b) runs on both servers (bp is the preloaded one),
# so that each of ours is compared with the hand-written query of its own server.
declare -A server_of=([a]=plain [b]=plain [c]=plain [d]=plain [e]=plain [bp]=preloaded [f]=preloaded [g]=preloaded)
declare -A script_of=([a]=a [b]=b [c]=c [d]=d [e]=validate [bp]=b [f]=validate [g]=many)

# record WHAT WHO TOKENS CLIENTS VALUE: a line of raw results.
record() {
    [ -n "$5" ] || die "no result: $1 $2"
    printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$raw"
}

# bench SERVER TOKENS CLIENTS SCRIPT [pgbench arguments]: its output, or the end of the run if
# anything failed in it. Compare only what ran with the same -c and -j.
bench() {
    "$BIN/pgbench" -h "${socket_of[$1]}" -U "$SUPERUSER" -n -M prepared -c "$3" -j "$(($3 < 2 ? $3 : 2))" \
        -D tokens="$2" -f "$4" "${@:5}" "bench_$2" 2>"$work/pgbench.log" ||
        { cat "$work/pgbench.log" >&2; die "pgbench failed: $4"; }
}

per_second() { bench "$@" | sed -n 's/^tps = \([0-9]*\).*/\1/p'; }

# throughput WHAT WHO TOKENS CLIENTS SECONDS: checks a second.
throughput() {
    rate=$(per_second "${server_of[$2]}" "$3" "$4" "bench/sql/${script_of[$2]}.sql" -T "$5")
    [ "$2" != g ] || rate=$((rate * 100))
    record "$1" "$2" "$3" "$4" "$rate"
    [[ "$2" != [fg] ]] || wait_for_flush "$3"
}

# The time of the last statement in milliseconds, from psql's \timing.
last_time() { sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -1; }
milliseconds() { sql "$1" "$2" -c '\timing on' -c "$3" | last_time; } # SERVER TOKENS SQL

# in_server WHO TOKENS: microseconds per call, 300,000 calls in one statement.
in_server() {
    time=$(sql "${server_of[$1]}" "$2" -f "bench/sql/in-server-${script_of[$1]}.sql" | last_time)
    record in_server "$1" "$2" 1 "$(awk -v ms="$time" 'BEGIN {printf "%.3f", ms / 300}')"
}

# Until every use in shared memory is in the table.
wait_for_flush() { # TOKENS
    for _ in $(seq 600); do
        [ "$(sql preloaded "$1" -c "SELECT map_pending FROM api_token_stats()")" != 0 ] || return 0
        sleep 0.1
    done
    die "uses are still pending after a minute: $(sql preloaded "$1" -c "SELECT last_error FROM api_token_stats()")"
}

# wal WHAT WHO TOKENS KIND: bytes of WAL per check, 200,000 checks of the 10,000 tokens of a kind,
# with the flush that follows.
wal() {
    server=${server_of[$2]} script=$work/$2-$4.sql
    sed "s/sk_bench_/sk_$4_/; s/:tokens/10000/" "bench/sql/${script_of[$2]}.sql" >"$script"
    before=$(sql "$server" "$3" -c "SELECT pg_current_wal_insert_lsn()")
    # As much WAL as with waiting for each commit, in a tenth of the time.
    PGOPTIONS="-c synchronous_commit=off ${touch_interval:-}" \
        bench "$server" "$3" 2 "$script" -t "$((WAL_CHECKS / 2))" >/dev/null
    [ "$server" = plain ] || wait_for_flush "$3"
    record "$1" "$2-$4" "$3" 2 "$(sql "$server" "$3" -c "SELECT round((pg_current_wal_insert_lsn() - '$before') / $WAL_CHECKS, 3)")"
}
