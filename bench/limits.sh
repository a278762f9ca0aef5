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

# in_server_cost WHO [ARGUMENTS]: microseconds per check in the server, of the same 1000 tokens.
in_server_cost() {
    time=$(milliseconds preloaded "$MAIN" "SELECT count(v.ok) FROM generate_series(1, 300000) i, LATERAL api_token_validate('sk_near_' || 1 + i % 1000${2:-}) v")
    record policy_us "$1" "$MAIN" 1 "$(awk -v ms="$time" 'BEGIN {printf "%.3f", ms / 300}')"
}

# set_policy JSON: for the tokens that are measured.
set_policy() {
    sql preloaded "$MAIN" -c "SELECT count(u) FROM generate_series(1, 1000) i, LATERAL api_token_validate('sk_near_' || i, client_ip => '10.1.2.3') v, LATERAL api_token_update(v.token_id, '$1') u" >/dev/null
}

# policy WHO SCRIPT [ARGUMENTS]: over connections, and in the server.
policy() {
    record policy_tps "$1" "$MAIN" 2 "$(per_second preloaded "$MAIN" 2 "bench/sql/limits-$2.sql" -T "$SECONDS_EACH")"
    in_server_cost "$1" "${3:-}"
}

measure_limits() {
    say "quotas, rate limits, scopes and addresses"
    sql plain "$MAIN" -f bench/sql/limits-load.sql >/dev/null
    for round in $(seq 0 "$ROUNDS"); do
        [ "$round" != 1 ] || sed -i '/^quota_\|^policy_/d' "$raw" # the round before the first warms up
        quota spread 1000 2
        quota hot 1 32
        quota held 1 16 -held
        set_policy '{"rate_limit": null, "rate_window": null, "allowed_ips": null}'
        policy without plain
        set_policy '{"rate_limit": 2000000000, "rate_window": "1 day"}'
        policy rate plain
        set_policy '{"rate_limit": null, "rate_window": null, "allowed_ips": ["10.0.0.0/8", "2001:db8::/32"], "scopes": ["orders_read", "orders_write"]}'
        policy scoped scoped ", '{orders_read}', '10.1.2.3'"
    done
}
