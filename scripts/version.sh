#!/usr/bin/env bash
# Prints the version, which is Cargo.toml's, once everything that must repeat it is seen to agree.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
command -v python3 >/dev/null || scripts/need.sh python3

setting() { sed -n "s/^$1 *= *['\"]\([^'\"]*\)['\"].*/\1/p" "$2" | head -1; }
version=$(sed -n '/^\[workspace.package\]/,/^$/p' Cargo.toml | setting version /dev/stdin)
[ -n "$version" ] || die "Cargo.toml has no version in [workspace.package]"
[ -f "sql/api_tokens--$version.sql" ] || die "there is no sql/api_tokens--$version.sql"
control=$(setting default_version api_tokens.control)
[ "$control" = "$version" ] || die "api_tokens.control says $control, Cargo.toml $version"
rust=$(sed -n 's/^ARG RUST=//p' Dockerfile)
[ "$rust" = "$(setting rust-version Cargo.toml)" ] || die "Dockerfile and Cargo.toml differ on the version of Rust"

python3 - "$version" <<'END' || die "META.json does not fit"
import json, os, sys
version, meta = sys.argv[1], json.load(open("META.json"))
for key in "name version abstract maintainer license provides meta-spec".split():
    assert meta.get(key), f"no {key}"
ours = meta["provides"]["api_tokens"]
assert meta["version"] == ours["version"] == version, f"its version is not {version}"
assert ours["file"] == f"sql/api_tokens--{version}.sql", "its file is of another version"
assert os.path.isfile(ours["docfile"]), "its docfile is missing"
END
echo "$version"
