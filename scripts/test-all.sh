#!/usr/bin/env bash
# Every test on every Postgres there is to test on, and pg_upgrade between them; the last line counts them all.
set -u
cd "$(dirname "$0")/.."
passed=0
failed=0
for major in 15 16 18; do
    make --no-print-directory test PG=$major 2>&1 | tee target/test-$major.log
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' target/test-$major.log | tail -1)
    # Without counts it did not get that far.
    set -- ${counts:-0 1}
    passed=$((passed + $1)) failed=$((failed + $2))
done
if INSTALL=no scripts/test-pg-upgrade.sh; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
