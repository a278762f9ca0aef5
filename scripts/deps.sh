#!/usr/bin/env bash
# Installs what the build and the tests need and this machine lacks: a Postgres server, its
# headers, and libclang to read them. Quick when everything is there.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh

command -v cargo >/dev/null || { echo "error: Rust 1.95 or newer is needed (rustup.rs)" >&2; exit 1; }

missing=
has_headers() { h=$("$PG_CONFIG" --includedir-server 2>/dev/null) && [ -f "$h/postgres.h" ]; }
has_server() { b=$("$PG_CONFIG" --bindir 2>/dev/null) && [ -x "$b/initdb" ]; }
if ! has_headers || ! has_server; then
    major=$(debian_major "$PG_CONFIG")
    major=${major:-15}
    if command -v apt-cache >/dev/null && ! is_offered "$major"; then
        suite=$(debian_with "$major")
        echo "error: apt has no Postgres $major here; make PG=... chooses another${suite:+, and
       scripts/in-debian.sh $suite make test PG=$major runs a Debian that has it}" >&2
        exit 1
    fi
    missing="$missing postgresql-$major postgresql-server-dev-$major"
fi
ls /usr/lib/llvm-*/lib/libclang.so* /usr/lib/*/libclang*.so* >/dev/null 2>&1 &&
    ls -d /usr/lib/llvm-*/lib/clang/*/include >/dev/null 2>&1 || missing="$missing libclang-dev"
command -v cc >/dev/null || missing="$missing gcc libc6-dev"
[ -n "$missing" ] || exit 0

# shellcheck disable=SC2086
scripts/need.sh $missing
