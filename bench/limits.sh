# Quotas beside the UPDATE one would write by hand, and what a rate limit adds to a check. Sourced by
# run.sh.

# quota WHAT TOKENS CLIENTS: both contestants in turn.
quota() {
    for who in ours hand; do
        rate=$("$BIN/pgbench" -h "${socket_of[plain]}" -U "$SUPERUSER" -n -M prepared -c "$3" -j 2 -D tokens="$2" \
            -f "bench/sql/quota-$who${4:-}.sql" -T "$SECONDS_EACH" "bench_$MAIN" 2>"$work/pgbench.log" |
            sed -n 's/^tps = \([0-9]*\).*/\1/p')
        record "quota_$1" "$who" "$MAIN" "$3" "$rate"
    done
}

# rate_cost WHO: microseconds per check in the server, of the same 1000 tokens.
rate_cost() {
    time=$(milliseconds preloaded "$MAIN" "SELECT count(v.remaining) FROM generate_series(1, 300000) i, LATERAL api_token_validate('sk_near_' || 1 + i % 1000) v")
    record rate "$1" "$MAIN" 1 "$(awk -v ms="$time" 'BEGIN {printf "%.3f", ms / 300}')"
}

set_rates() { # JSON
    sql preloaded "$MAIN" -c "SELECT count(u) FROM generate_series(1, 1000) i, LATERAL api_token_validate('sk_near_' || i) v, LATERAL api_token_update(v.token_id, '$1') u" >/dev/null
}

measure_limits() {
    say "quotas and rate limits"
    sql plain "$MAIN" -f bench/sql/limits-load.sql >/dev/null
    for round in $(seq 0 "$ROUNDS"); do
        [ "$round" != 1 ] || sed -i '/^quota_\|^rate\t/d' "$raw" # the round before the first warms up
        quota spread 1000 2
        quota hot 1 32
        quota held 1 16 -held
        set_rates '{"rate_limit": null, "rate_window": null}'
        rate_cost without
        set_rates '{"rate_limit": 2000000000, "rate_window": "1 day"}'
        rate_cost with
    done
}
