#!/usr/bin/env bash
# pg_upgrade of a cluster with data, from Postgres 15 and from 16 to 18: does everything work there?
set -euo pipefail
cd "$(dirname "$0")/.."
NEW=18

# on MAJOR FUNCTION ARGUMENTS...: with scripts/lib.sh for that server.
on() {
    (PG_CONFIG=$(scripts/pg-config.sh "$1") && . scripts/lib.sh && shift && "$@")
}

start() { start_cluster "$1" api_tokens.vault_key_file="'$keys'" max_prepared_transactions=5; }
sql() { as_server "$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "$(socket_dir "$cluster")" -U "$SUPERUSER" -d app "$@"; }

fill() {
    cluster=$1
    start "$cluster" >/dev/null
    as_server "$BIN/createdb" -h "$(socket_dir "$cluster")" -U "$SUPERUSER" app
    sql -f - >"$2" <<'SQL'
CREATE EXTENSION api_tokens;
CREATE ROLE app;
SELECT api_tokens_grant('app', 'validate');
SELECT token, 'ok' FROM api_token_create('acme', 'live', '{"seats": 3}', '{orders:*}');
SELECT token, 'usage_exceeded' FROM api_token_create('acme', max_uses => 2) k
WHERE (SELECT ok FROM api_token_validate(k.token, cost => 2));
SELECT token, 'revoked' FROM api_token_create('acme') k WHERE api_token_invalidate(k.token);
SELECT token, 'disabled' FROM api_token_create('acme') k WHERE api_token_set_enabled(k.token_id, false);
SELECT api_vault_store('acme', 'stripe', 'whsec');
SQL
    # Debian's build of 15.20 marks the columns of each table, anybody's, with an option that its own pg_dump
    # leaves out and that of another build does not, so that no table at all would restore.
    sql -c "UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE '{pg_attver=%'"
    sql -c "$TOLD" >"$2.told"
    stop_cluster "$cluster"
}

# Last uses change with the checks that follow.
TOLD="SELECT token_id, token_prefix, name, metadata, scopes, status, created_at FROM api_token_list('acme', true)
    UNION ALL SELECT NULL, method, NULL, NULL, NULL, count::text, at FROM api_token_events() ORDER BY 7, 2"

check() {
    cluster=$1
    start "$cluster" >/dev/null
    sql -c "$TOLD" | diff "$2.told" - || die "tokens and events are not told as before"
    while IFS='|' read -r token expected; do
        case $token in sk_*)
            is=$(sql -c "SELECT coalesce(reason, 'ok') FROM api_token_validate('$token')")
            [ "$is" = "$expected" ] || die "a token is $is and not $expected"
        esac
    done <"$2"
    [ "$(sql -c "SELECT api_vault_get('acme', 'stripe')")" = whsec ] || die "the vault does not open"
    sql -c "SET ROLE app" -c "SELECT reason FROM api_token_validate('x')" >/dev/null || die "rights were lost"
    before=$(sql -c "SELECT count(*) FROM api_token_events()")
    sql -c "SELECT api_token_create('acme')" -c "SELECT api_token_cleanup()" >/dev/null
    [ "$(sql -c "SELECT count(*) FROM api_token_events()")" = $((before + 1)) ] || die "events have a gap"
    remove_cluster "$cluster"
}

upgrade() {
    as_server "$BIN/initdb" -D "$2/data" -U "$SUPERUSER" -A trust -E UTF8 --no-locale --no-sync \
        --no-data-checksums >/dev/null
    (as_server sh -c "cd '$2' && '$BIN/pg_upgrade' -b '$3' -B '$BIN' -d '$1/data' -D '$2/data' -U '$SUPERUSER' -s '$2'") \
        >"$2/pg_upgrade.log" 2>&1 || { tail -40 "$2/pg_upgrade.log"; die "pg_upgrade failed"; }
}

[ "${INSTALL:-yes}" = no ] || for major in 15 16 "$NEW"; do make --no-print-directory install PG=$major; done
for old in 15 16; do
    echo "== pg_upgrade from Postgres $old to $NEW"
    from=$(on "$old" server_dir "upgrade-$old")
    to=$(on "$NEW" server_dir "upgrade-$old-$NEW")
    on "$old" remove_cluster "$from"
    on "$NEW" remove_cluster "$to"
    keys=$from/vault.keys
    on "$old" make_key_file "$keys"
    made=target/upgrade-$old.made
    on "$old" fill "$from" "$made"
    on "$NEW" upgrade "$from" "$to" "$(dirname "$(scripts/pg-config.sh "$old")")"
    on "$NEW" check "$to" "$made"
    on "$old" remove_cluster "$from"
done
echo "pg_upgrade from 15 and 16 to $NEW: all is as it was"
