#!/usr/bin/env bash
# What deny.toml asks of the dependencies. Installs cargo-deny if it is missing (some minutes). Where the
# database of advisories cannot be had, it says so and checks the rest.
set -eu
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    echo "== installing cargo-deny (the first time takes some minutes)"
    cargo install cargo-deny --locked --quiet
fi
deny() { cargo deny --workspace --locked check "$@"; }

deny bans licenses sources
if cargo deny --workspace --locked fetch db >target/deny.log 2>&1; then
    deny advisories
else
    tail -3 target/deny.log >&2
    echo "== the database of advisories cannot be fetched: ADVISORIES WERE NOT CHECKED"
fi
