#!/usr/bin/env bash
# Makes the zip for PGXN of what is committed.
set -euo pipefail
cd "$(dirname "$0")/.."
say() { printf '== %s\n' "$*"; }

version=$(scripts/version.sh)
# The versions were checked in the files that lie here; the zip has those that are committed.
[ -z "$(git status --porcelain)" ] || { echo "error: commit first; the zip is made of HEAD" >&2; exit 1; }
zip=target/dist/api_tokens-$version.zip
mkdir -p target/dist
# Zip knows local time only.
TZ=UTC git archive --format=zip --prefix="api_tokens-$version/" -o "$zip" HEAD
say "$zip: $(git ls-files | wc -l) files, sha256 $(sha256sum "$zip" | cut -d' ' -f1)"
