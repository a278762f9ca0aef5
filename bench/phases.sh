# What is measured, in this order. Each phase goes through its contestants in turn, round after
# round, so that whatever happens on the machine happens to all. Sourced by run.sh.

# (f) has to pay for its flushes: its rounds are longer than the interval, and whoever comes next
# waits until nothing is left to be flushed.
seconds_of() {
    [ "$1" = f ] && [ "$SECONDS_EACH" -le "$FLUSH_INTERVAL" ] && echo $((FLUSH_INTERVAL + 1)) || echo "$SECONDS_EACH"
}

measure_throughput() { # at 2 clients and each size; beyond the main size without those who write
    for tokens in $SIZES; do
        say "checks a second, $tokens tokens"
        others="c d a"
        [ "$tokens" -le "$MAIN" ] || others=a
        for who in $others b e bp f g; do throughput warm_up "$who" "$tokens" 2 1; done
        before=$(sql preloaded "$tokens" -c "SELECT map_full || ' ' || touches_coalesced FROM api_token_stats()")
        for round in $(seq "$ROUNDS"); do
            # Those who write are followed by the floor, not by one whom their dirty pages would
            # slow; ours and its (b) are neighbours, and take turns in going first.
            order="b e bp f g"
            [ "$((round % 2))" = 1 ] || order="e b f bp g"
            for who in $others $order; do throughput throughput "$who" "$tokens" 2 "$(seconds_of "$who")"; done
        done
        after=$(sql preloaded "$tokens" -c "SELECT map_full || ' ' || touches_coalesced FROM api_token_stats()")
        record map_full f "$tokens" 2 "$(echo "$before $after" | awk '{full = $3 - $1; kept = $4 - $2; printf "%.1f", 100 * full / (full + kept)}')"
    done
}

measure_clients() { # at the main size; 2 clients were measured above
    for clients in $CLIENTS; do
        [ "$clients" != 2 ] || continue
        say "checks a second, $clients clients"
        for _ in $(seq "$ROUNDS"); do
            for who in b e bp f; do throughput clients "$who" "$MAIN" "$clients" "$(seconds_of "$who")"; done
        done
    done
}

measure_latency() { # one client, at the main size
    say "latency"
    by_hand="SELECT token_id, namespace, name, metadata, scopes, expires_at FROM by_hand
        WHERE token_hash = sha256(\$1::text::bytea) AND revoked_at IS NULL AND enabled
            AND (expires_at IS NULL OR expires_at > clock_timestamp())
            AND (max_idle IS NULL OR clock_timestamp() - last_used_at <= max_idle)"
    ours='SELECT token_id, namespace, name, metadata, scopes, expires_at FROM api_token_validate($1)'
    floor='SELECT $1::text'
    taskset -c 0 target/bench-latency/release/latency "bench_$MAIN" "$MAIN" "$LATENCY_CALLS" \
        "a=${socket_of[plain]}=$floor" "b=${socket_of[plain]}=$by_hand" "e=${socket_of[plain]}=$ours" \
        "bp=${socket_of[preloaded]}=$by_hand" "f=${socket_of[preloaded]}=$ours" >"$work/latency"
    while read -r who p50 p99 _; do
        record p50 "$who" "$MAIN" 1 "$p50"
        record p99 "$who" "$MAIN" 1 "$p99"
    done <"$work/latency"
}

measure_in_server() { # at each size
    say "in the server"
    for round in $(seq 0 "$ROUNDS"); do
        [ "$round" != 1 ] || sed -i '/^in_server/d' "$raw" # the round before the first warms up
        for tokens in $SIZES; do
            for who in b e bp f g; do in_server "$who" "$tokens"; done
        done
    done
}

measure_wal() { # at the main size
    say "WAL"
    for who in f-spread f-near e-spread e-near c-spread; do
        server=${server_of[${who%-*}]}
        [ "$server" = plain ] || wait_for_flush "$MAIN"
        sql "$server" "$MAIN" -c CHECKPOINT
        wal wal_after_checkpoint "${who%-*}" "$MAIN" "${who#*-}"
        touch_interval=''
        if [ "${who%-*}" = e ]; then
            # Not preloaded a token is written once per interval: let one pass, or nothing is.
            sleep 5
            touch_interval='-c api_tokens.touch_interval=5s'
        fi
        wal wal "${who%-*}" "$MAIN" "${who#*-}"
        touch_interval=''
    done
}

measure_hot() { # one token checked by 32 clients, against 10,000
    say "one hot token"
    sed 's/^.set i .*/\\set i 7/' bench/sql/validate.sql >"$work/hot.sql"
    sed 's/:tokens/10000/' bench/sql/validate.sql >"$work/spread.sql"
    for _ in $(seq "$ROUNDS"); do
        for which in hot spread; do
            record hot "$which" "$MAIN" 32 "$(per_second preloaded "$MAIN" 32 "$work/$which.sql" -T "$SECONDS_EACH")"
        done
    done
}

measure_other_work() { # at the main size, not preloaded; last, for it changes the table
    say "other work"
    work_sql() { record other "$1" "$MAIN" 1 "$(milliseconds plain "$MAIN" "$2")"; }
    record other create_2_clients "$MAIN" 2 "$(per_second plain "$MAIN" 2 bench/sql/create.sql -T "$SECONDS_EACH")"
    work_sql create_10000 "SELECT count(c.token) FROM generate_series(1, 10000) i, LATERAL api_token_create('bulk-' || i % 10) c"
    sql plain "$MAIN" -c "INSERT INTO api_tokens.tokens (token_id, family_id, created_at, last_used_at, token_hash, namespace, token_prefix)
        SELECT id, id, now(), now(), sha256(id::text::bytea), CASE WHEN i <= 100000 THEN 'hundred' ELSE 'ten' END, 'sk_...'
        FROM (SELECT i, gen_random_uuid() AS id FROM generate_series(1, 110000) i) t" -c "ANALYZE api_tokens.tokens"
    work_sql invalidate_all "SELECT api_token_invalidate_all('hundred')"
    work_sql cleanup "SELECT api_token_cleanup('0')"
    work_sql list "SELECT count(*) FROM api_token_list('ten')"
    work_sql list_50 "SELECT count(*) FROM api_token_list('ten', max_rows => 50)"
}
