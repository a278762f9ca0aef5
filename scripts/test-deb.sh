#!/usr/bin/env bash
# test-deb.sh MAJOR: checks the package with lintian, then installs, uses and purges it in a minimal Debian that has
# this Postgres.
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=/bin/true . scripts/lib.sh
. scripts/debian.sh
scripts/need.sh lintian

major=$1
version=$(scripts/version.sh)
deb=$(echo "target/dist/postgresql-$major-api-tokens_$version-"*.deb)
[ -f "$deb" ] || die "there is not one package of $version for Postgres $major in target/dist"
say "lintian on $deb"
lintian --allow-root --display-info --fail-on error,warning "$deb"

files=$(dpkg-deb --fsys-tarfile "$deb" | tar -t)
grep -qxF "./usr/lib/postgresql/$major/lib/api_tokens.so" <<<"$files" || die "the library is missing"
for file in api_tokens.control sql/api_tokens--*.sql; do
    grep -qxF "./usr/share/postgresql/$major/extension/${file##*/}" <<<"$files" || die "${file##*/} is missing"
done

suite=$(debian_with "$major")
if [ -z "$suite" ]; then
    say "not installed: no Debian has Postgres $major, so the package was checked by lintian only"
    exit
fi
say "installing it in a minimal Debian (about two minutes)"
FILES="$deb scripts/test-deb-inside.sh" scripts/in-debian.sh "$suite" bash test-deb-inside.sh "$major" "/src/${deb##*/}"
