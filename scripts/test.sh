#!/usr/bin/env bash
# Runs every test against a throwaway cluster; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/deps-test.sh || die "what the tests need could not be installed"

passed=0
failed=0
log=target/test.log
: >"$log"

# tally FILE PASSED FAILED: counts the lines of a runner's output that match.
tally() {
    passed=$((passed + $(grep -cE "$2" "$1")))
    failed=$((failed + $(grep -cE "$3" "$1")))
}

# cargo_tests NAME ARGUMENTS...
cargo_tests() {
    say "$1"
    shift
    cargo test --locked --no-fail-fast "$@" >target/step.log 2>&1
    status=$?
    tally target/step.log '^test .* \.\.\. ok$' '^test .* \.\.\. FAILED$'
    if [ "$status" != 0 ]; then
        grep -qE '^test .* \.\.\. FAILED$' target/step.log || failed=$((failed + 1))
        cat target/step.log
    fi
    cat target/step.log >>"$log"
    grep -E '^test result' target/step.log
}

# pg_tests NAME PROGRAM INPUTDIR DATABASE: a schedule of pg_regress or pg_isolation_regress.
pg_tests() {
    say "$1"
    program=$pgxs/$2
    # That of Postgres 18 in the wheel is damaged and does not start; that of 16 serves, it is a client.
    "$program" --version >/dev/null 2>&1 || program=${program/pginstall18/pginstall}
    out=$(server_dir "$4")
    rm -rf "${out:?}"/*
    input=$out/input
    cp -r "$3" "$input"
    [ "$(id -u)" != 0 ] || chown -R postgres "$out"
    as_server env PATH="$BIN:$PATH" "$program" --bindir="$BIN" --inputdir="$input" --outputdir="$out" \
        --host="$socket" --user="$SUPERUSER" --dbname="$4" --load-extension=api_tokens \
        --schedule="$input/schedule" >target/step.log 2>&1
    status=$?
    failing='^(not ok |test .* \.\.\. FAILED| +[a-z_]+ +\.\.\. FAILED)'
    tally target/step.log '^(ok |test .* \.\.\. ok| +[a-z_]+ +\.\.\. ok)' "$failing"
    if [ "$status" != 0 ] && ! grep -qE "$failing" target/step.log; then
        failed=$((failed + 1))
        cat target/step.log
    fi
    cat target/step.log >>"$log"
    grep -E 'ok|FAILED' target/step.log
    [ ! -s "$out/regression.diffs" ] || cat "$out/regression.diffs"
}

# logs_test CLUSTER...: one test, that no server beside them logged that anything was left open, or ended by itself.
# Signal 9 is how tests kill; a killed server says nothing.
logs_test() {
    say "the logs: nothing left open, nothing crashed"
    left="(refcount|reference|context|file|memory) leak|leaked |leaking |resource was not closed|not owned by resource owner"
    left="$left|you don't own a lock|snapshot .* still active|seem to remain after cleanup|SPI stack"
    left="$left|not closed at end-of-transaction|still referenced \(local|after release started"
    # What a server with assertions says of its memory.
    left="$left|problem in alloc|write past chunk|left non-empty"
    ended='PANIC: |TRAP: |terminated by exception|terminated by signal ([^9]|9[0-9])'
    : >target/step.log
    for cluster in "$@"; do
        cluster=$(server_dir "$cluster")
        grep -q 'ready to accept connections' "$cluster/server.log" || echo "no log in $cluster" >>target/step.log
        grep -HE "(WARNING|ERROR|FATAL): .*($left)|$ended" "$cluster"/*.log >>target/step.log
    done
    if [ -s target/step.log ]; then
        failed=$((failed + 1))
        cat target/step.log | tee -a "$log"
    else
        passed=$((passed + 1))
    fi
}

trap 'remove_cluster "$(server_dir preloaded)"; remove_cluster "$(server_dir test)"' EXIT
export RUST_BACKTRACE=0

cargo_tests "pure logic: unit and property tests" -p api_tokens_logic
others=
! has_library pg_stat_statements || others=,pg_stat_statements
new_cluster preloaded shared_preload_libraries="'api_tokens$others'" api_tokens.flush_interval=1
cargo_tests "preloaded: the touch map and its flushes" -p api_tokens_tests --test preloaded
cargo_tests "preloaded: where the server, its worker or memory is missing" -p api_tokens_tests --test outages
cargo_tests "preloaded: uses per hour" -p api_tokens_tests --test usage
cargo_tests "preloaded: rate limits, and quotas after a crash" -p api_tokens_tests --test rates
cargo_tests "preloaded: what the page for operations says" -p api_tokens_tests --test operations -- --test-threads=1
cargo_tests "preloaded: what the log holds of secrets" -p api_tokens_tests --test redaction
cargo_tests "preloaded: beside another library's hook for the log" -p api_tokens_tests --test log_hooks
cargo_tests "preloaded: memory per call" -p api_tokens_tests --test memory
cargo_tests "preloaded: crashes under load (make test-long: many)" -p api_tokens_tests --test crash
cargo_tests "preloaded: no accept after a revocation (make test-long: of a million)" -p api_tokens_tests --test linearizability
cargo_tests "preloaded: the keys of the vault" -p api_tokens_tests --test vault_keys -- --test-threads=1
# pg_cron is there to be tested with; ours is not preloaded.
if has_library pg_cron; then
    new_cluster test shared_preload_libraries=pg_cron cron.host="'$(socket_dir "$(server_dir test)")'"
else
    new_cluster test
fi
cargo_tests "black box: SQL over real connections" -p api_tokens_tests

pgxs=$(dirname "$(dirname "$("$PG_CONFIG" --pgxs)")")/test
pg_tests "pg_regress: the surface" regress/pg_regress tests/regress regress
pg_tests "isolation: races" isolation/pg_isolation_regress tests/isolation isolation

logs_test preloaded test

say "details in $log"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
