#!/usr/bin/env bash
# Does the committed install script declare each function as the library defines it? What
# `cargo pgrx schema` reads off the library is loaded beside the extension, and the two catalogs
# are compared: name, argument names and types, result type, volatility, strictness, parallelism.
# Defaults, OUT columns, rights and comments are the install script's alone (see surface.txt).
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

export PATH="$PWD/target/tools/bin:$PATH" PGRX_HOME="$PWD/target/pgrx"
version=$(sed -n 's/^pgrx = { version = "=\([^"]*\)".*/\1/p' Cargo.toml)
if ! cargo pgrx --version 2>/dev/null | grep -qw "$version"; then
    say "building cargo-pgrx $version, for this check only (three to six minutes)"
    cargo install cargo-pgrx --version "=$version" --locked --quiet --root target/tools
fi
mkdir -p "$PGRX_HOME"
cargo pgrx init "--pg$PG_MAJOR=$BIN/pg_config" >target/pgrx-init.log 2>&1 ||
    { cat target/pgrx-init.log; die "cargo pgrx init failed"; }

say "reading the schema off the library"
CARGO_TARGET_DIR=$1 cargo pgrx schema "pg$PG_MAJOR" --package api_tokens --release \
    --no-default-features --features "pg$PG_MAJOR" --out target/schema.sql >target/schema.log 2>&1 ||
    { cat target/schema.log; die "cargo pgrx schema failed"; }

cluster=$(server_dir schema)
trap 'remove_cluster "$cluster"' EXIT
start_cluster "$cluster" fsync=off
psql=("$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "$(socket_dir "$cluster")" -U "$SUPERUSER")

functions="SELECT format('%s(%s) -> %s%s %s %s %s', p.prosrc,
    (SELECT string_agg(coalesce(a.name, '') || ' ' || format_type(a.type, NULL), ', ' ORDER BY a.n)
        FROM unnest(p.proargtypes::oid[], p.proargnames[:p.pronargs]) WITH ORDINALITY a(type, name, n)),
    CASE WHEN p.proretset THEN 'setof ' END, format_type(p.prorettype, NULL),
    p.provolatile, p.proisstrict, p.proparallel)
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE l.lanname = 'c' AND p.probin LIKE '%api_tokens%' ORDER BY 1"

"${psql[@]}" -d postgres -c "CREATE DATABASE installed" -c "CREATE DATABASE derived"
"${psql[@]}" -d installed -c "CREATE EXTENSION api_tokens"
sed "s|'MODULE_PATHNAME'|'\$libdir/api_tokens'|" target/schema.sql |
    "${psql[@]}" -d derived -f - >/dev/null
"${psql[@]}" -d installed -c "$functions" >target/installed.txt
"${psql[@]}" -d derived -c "$functions" >target/derived.txt
diff -u --label "install script" --label "library" target/installed.txt target/derived.txt ||
    die "sql/api_tokens--*.sql does not declare what the library defines"
say "the install script agrees with the library on $(wc -l <target/derived.txt) functions"
