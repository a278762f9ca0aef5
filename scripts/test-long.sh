#!/usr/bin/env bash
# What `make test` does briefly, at length: 50 rounds of each kind of crash, a million checks against
# revocations, memory over a million calls of each function (preloaded and not), arguments of a gigabyte (it takes
# 8 GB of memory), and timeouts among 200,000 rows. API_TOKENS_TEST_ROUNDS, _VALIDATIONS, _CALLS, _BYTES, _ROWS and
# _SEED change that; the seed of a run is printed.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
export API_TOKENS_TEST_ROUNDS=${API_TOKENS_TEST_ROUNDS:-50}
export API_TOKENS_TEST_VALIDATIONS=${API_TOKENS_TEST_VALIDATIONS:-1000000}
export API_TOKENS_TEST_CALLS=${API_TOKENS_TEST_CALLS:-1000000}
export API_TOKENS_TEST_BYTES=${API_TOKENS_TEST_BYTES:-1000000000}
export API_TOKENS_TEST_ROWS=${API_TOKENS_TEST_ROWS:-200000}
export RUST_BACKTRACE=0
trap 'remove_cluster "$(server_dir long)"' EXIT
new_cluster long shared_preload_libraries=api_tokens api_tokens.flush_interval=1
for test in crash linearizability memory; do
    cargo test --locked -p api_tokens_tests --test $test -- --nocapture --test-threads=1
done
new_cluster long
for test in memory arguments interrupts; do
    cargo test --locked -p api_tokens_tests --test $test -- --nocapture --test-threads=1
done
