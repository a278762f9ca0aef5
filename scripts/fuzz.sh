#!/usr/bin/env bash
# Runs each fuzz target for SECONDS_EACH seconds (60). Not a part of `make test`: it needs
# cargo-fuzz and clang, which it installs, and minutes.
set -eu
cd "$(dirname "$0")/.."
fuzz=target/tools/bin/cargo-fuzz
[ -x "$fuzz" ] || cargo install --locked --root target/tools --version 0.13.1 cargo-fuzz
# Coverage without a sanitizer: those need a nightly compiler, and this code has no unsafe.
for target in $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//'); do
    echo "== fuzzing $target"
    (cd fuzz && ../"$fuzz" run --sanitizer none --target-dir ../target/fuzz "$target" -- \
        -max_total_time="${SECONDS_EACH:-60}" -max_len=4096 -print_final_stats=1)
done
