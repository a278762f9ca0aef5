#!/usr/bin/env bash
# Runs a server under valgrind, first with the extension preloaded and then without, and on it the schedule of
# pg_regress and a script that calls every function. Ends with an error if valgrind reports one. It must be a
# server that tells valgrind of its memory contexts:
#   scripts/cassert.sh scripts/valgrind.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
scripts/need.sh valgrind
supp=$(dirname "$PG_CONFIG")/../valgrind.supp
[ -f "$supp" ] || die "$PG_CONFIG is of no server for valgrind: use scripts/cassert.sh scripts/valgrind.sh"
pgxs=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")/test
found=0
trap 'remove_cluster "$(server_dir valgrind)"' EXIT

for preloaded in true false; do
    preload=
    [ $preloaded = false ] || preload=shared_preload_libraries=api_tokens
    new_cluster valgrind $preload api_tokens.flush_interval=1 authentication_timeout=600
    stop_cluster "$cluster"
    logs=$(server_dir "valgrind-preloaded-$preloaded")
    rm -rf "${logs:?}"/*
    # It is found by its name, and valgrind keeps the server's.
    printf '%s\n' '#!/bin/sh' "exec nice valgrind --quiet --leak-check=no --gen-suppressions=all --num-callers=40 --suppressions='$supp' \
        --error-markers=BEGIN,END --log-file='$logs/%p.log' '$BIN/postgres' \"\$@\"" >"$cluster/valgrind"
    chmod 755 "$cluster/valgrind"
    say "starting it under valgrind"
    as_server "$BIN/pg_ctl" -p "$cluster/valgrind" -D "$cluster/data" -l "$cluster/server.log" -t 300 -w start >/dev/null

    say "pg_regress"
    out=$(server_dir valgrind-regress)
    rm -rf "${out:?}"/*
    cp -r tests/regress "$out/input"
    [ "$(id -u)" != 0 ] || chown -R postgres "$out"
    as_server env PATH="$BIN:$PATH" "$pgxs/regress/pg_regress" --bindir="$BIN" --inputdir="$out/input" --outputdir="$out" \
        --host="$socket" --user="$SUPERUSER" --dbname=regress --load-extension=api_tokens --schedule="$out/input/schedule" ||
        found=1
    say "every function"
    as_server "$BIN/psql" -qX -h "$socket" -U "$SUPERUSER" -d api_tokens_template -v preloaded=$preloaded \
        <scripts/valgrind.sql >"$logs/sql.out" 2>&1 || { tail -3 "$logs/sql.out"; found=1; }
    ! grep '^not called' "$logs/sql.out" || found=1
    stop_cluster "$cluster"
    errors=$(cat "$logs"/*.log | grep -c BEGIN || true)
    say "preloaded=$preloaded: $errors errors in $(ls "$logs"/*.log | wc -l) processes; $logs"
    [ "$errors" = 0 ] || found=1
done
[ $found = 0 ] || die "see above"
