#!/usr/bin/env bash
# sqlsmith: random queries against a server with the extension preloaded, for MINUTES=20. No crash, no failed
# assertion, no internal error of ours.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
MINUTES=${MINUTES:-20}
command -v sqlsmith >/dev/null || scripts/need.sh sqlsmith

cluster=$(server_dir sqlsmith)
remove_cluster "$cluster"
make_key_file "$cluster/vault.keys"
trap 'stop_cluster "$cluster"' EXIT
# All sessions with the rights that reach all functions of ours, and none of those that stop a server.
start_cluster "$cluster" shared_preload_libraries=api_tokens fsync=off api_tokens.vault_key_file="'$cluster/vault.keys'" \
    statement_timeout=2s log_min_messages=warning log_min_error_statement=error log_error_verbosity=verbose track_functions=all
psql=("$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "$(socket_dir "$cluster")" -U "$SUPERUSER" -d postgres)
as_server "${psql[@]}" >/dev/null <<'SQL'
CREATE EXTENSION api_tokens;
CREATE ROLE smith LOGIN;
SELECT api_tokens_grant('smith', 'admin');
SELECT count(api_token_create('ns' || i % 3, 'a name', '{"a": [1, null]}', '{a,b:*}', max_uses => 5)) FROM generate_series(1, 50) i;
SELECT count(api_vault_store('ns' || i % 3, 'key' || i, 'a value')) FROM generate_series(1, 20) i;
CREATE TABLE words AS SELECT token_id, namespace, token_prefix, created_at, scopes, metadata, max_idle, allowed_ips FROM api_token_list('ns1');
GRANT ALL ON words TO smith;
SQL
say "random queries for $MINUTES minutes"
# It ends by the clock; or by a lost connection, which the log explains.
timeout "$((MINUTES * 60))" sqlsmith --exclude-catalog --verbose \
    --target="host=$(socket_dir "$cluster") user=smith dbname=postgres" >"$cluster/sqlsmith.out" 2>&1 || true
as_server "${psql[@]}" -c "SELECT count(*) || ' functions of ours were called ' || sum(calls) || ' times' FROM pg_stat_user_functions" ||
    echo "the server is gone"
echo "$(grep -oE 'queries: [0-9]+' "$cluster/sqlsmith.out" | tail -1), $(grep -c 'ERROR:' "$cluster/server.log") of them refused"
bad='terminated by signal|TRAP:|PANIC|server process .* exited|panicked|corrupt'
if grep -nE "$bad" "$cluster/server.log" | head -20 | grep .; then die "see $cluster/server.log"; fi
# XX000 with our place: what was not foreseen.
if grep -E "ERROR:  XX000" -A6 "$cluster/server.log" | grep -E "LOCATION: .*(api_tokens|\.rs)" | sort | uniq -c | grep .; then
    die "internal errors of ours: see $cluster/server.log"
fi
