#!/usr/bin/env bash
# What `make test` does briefly, at length: 50 rounds of each kind of crash, a million checks against
# revocations. API_TOKENS_TEST_ROUNDS, _VALIDATIONS and _SEED change that; the seed of a run is printed.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
export API_TOKENS_TEST_ROUNDS=${API_TOKENS_TEST_ROUNDS:-50}
export API_TOKENS_TEST_VALIDATIONS=${API_TOKENS_TEST_VALIDATIONS:-1000000}
export RUST_BACKTRACE=0
trap 'remove_cluster "$(server_dir long)"' EXIT
new_cluster long shared_preload_libraries=api_tokens api_tokens.flush_interval=1
for test in crash linearizability; do
    cargo test --locked -p api_tokens_tests --test $test -- --nocapture --test-threads=1
done
