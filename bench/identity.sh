# The identity of a transaction: what row security by it costs. At the main size, not preloaded.
# Sourced by run.sh.

# identity_time WHO [psql arguments]: the last statement's time in milliseconds, as the app's role.
identity_time() {
    who=$1
    shift
    time=$("$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "${socket_of[plain]}" -U bench_app -d "bench_$MAIN" -c '\timing on' \
        -c "SET max_parallel_workers_per_gather = 0" -c BEGIN -c "SELECT ok FROM api_token_require('sk_bench_7')" "$@" | last_time)
    record identity "$who" "$MAIN" 1 "$time"
}

measure_identity() {
    say "identity and row security"
    sql plain "$MAIN" -v tokens="$MAIN" -f bench/sql/identity-load.sql >/dev/null
    # The same table without its policy, which binds neither its owner nor a superuser.
    sql plain "$MAIN" -c "CREATE VIEW all_orders AS SELECT * FROM orders" -c "GRANT SELECT ON all_orders TO bench_app"
    for round in $(seq 0 "$ROUNDS"); do
        [ "$round" != 1 ] || sed -i '/^identity/d' "$raw" # the round before the first warms up
        for what in "constant all_orders WHERE namespace = 'namespace-7'" "policy orders" \
            "per_row all_orders WHERE namespace = api_token_current_namespace()"; do
            identity_time "${what%% *}" -c "SELECT count(item) FROM ${what#* }"
        done
        identity_time calls -c "SELECT count(api_token_current_namespace()) FROM generate_series(1, 1000000)"
        identity_time no_calls -c "SELECT count(i::text) FROM (SELECT 'x'::text FROM generate_series(1, 1000000)) t(i)"
        for who in plain setting ours; do
            role=bench_app
            [ "$who" != plain ] || role=$SUPERUSER
            record identity_tps "$who" "$MAIN" 2 "$(SUPERUSER=$role per_second plain "$MAIN" 2 "bench/sql/identity-$who.sql" -T "$SECONDS_EACH")"
        done
    done
}
