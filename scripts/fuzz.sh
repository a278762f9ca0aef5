#!/usr/bin/env bash
# Runs each fuzz target, or those that are named, for SECONDS_EACH seconds (60), JOBS of them at a
# time. A line for each; the last one is "N passed, N failed". Not a part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
export SECONDS_EACH=${SECONDS_EACH:-60}
command -v c++ >/dev/null || scripts/need.sh g++
cargo_fuzz=$PWD/target/tools/bin/cargo-fuzz
[ -x "$cargo_fuzz" ] || cargo install --locked --quiet --root target/tools --version 0.13.1 cargo-fuzz
echo "== building the fuzz targets"
# Coverage without a sanitizer: those need a nightly compiler, and this code has no unsafe.
(cd fuzz && "$cargo_fuzz" build --sanitizer none --target-dir ../target/fuzz)

# run TARGET: what it found worth keeping stays in fuzz/corpus, what it failed at in fuzz/artifacts.
run() {
    local binary=(target/fuzz/*/release/"$1") log=target/fuzz/$1.log begun result=passed
    begun=$(date +%s)
    mkdir -p "fuzz/corpus/$1" "fuzz/artifacts/$1"
    "${binary[0]}" -artifact_prefix="fuzz/artifacts/$1/" -max_total_time="$SECONDS_EACH" -max_len=4096 \
        -timeout=10 -print_final_stats=1 "fuzz/corpus/$1" >"$log" 2>&1 || result=FAILED
    printf '%-16s %12s runs  %4s s  %s\n' "$1" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(($(date +%s) - begun))" "$result"
    [ "$result" != passed ] || return 0
    sed -n "/panicked at/,+2p; s|^.*Test unit written to|  again: ${binary[0]}|p" "$log"
    # Where a stack overflows that is all there is.
    echo "  its log: $log"
}
export -f run
echo "== fuzzing, $SECONDS_EACH seconds each"
targets=${*:-$(basename -s .rs fuzz/fuzz_targets/*.rs)}
# shellcheck disable=SC2086
printf '%s\n' $targets | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'run {}' | tee target/fuzz/results
passed=$(grep -c ' passed$' target/fuzz/results || true)
failed=$(grep -c ' FAILED$' target/fuzz/results || true)
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
