#!/usr/bin/env bash
# Makes the Debian package for the Postgres of PG_CONFIG, in the Debian that has it where this machine cannot. From one
# commit, wherever it lies, comes one file, byte for byte, as long as compiler and Debian are the same.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/debian.sh
major=$(debian_major "${PG_CONFIG:-}")
if [ -n "$major" ] && suite=$(debian_with "$major") && [ -n "$suite" ] && ! is_offered "$major"; then
    exec scripts/in-debian.sh "$suite" make deb "PG=$major"
fi
scripts/deps.sh
. scripts/lib.sh
umask 022
scripts/need.sh dpkg-dev binutils python3

version=$(scripts/version.sh)
name=postgresql-$PG_MAJOR-api-tokens
# A library built on one release of Debian need not load on an older one, and an upgrade of Debian brings its own.
revision=$version-1~deb$(. /etc/os-release && echo "${VERSION_ID:-$VERSION_CODENAME}" | cut -d. -f1)
arch=$(dpkg --print-architecture)
maintainer=$(sed -n 's/^ *"maintainer": "\(.*\)",$/\1/p' META.json)
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct || true)}
[ -n "$epoch" ] || die "outside of git, set SOURCE_DATE_EPOCH"

# In a folder of its own, as the folders of this machine must not get into the library.
build=target/deb/pg$PG_MAJOR
RUSTFLAGS="--remap-path-prefix=$PWD=/api_tokens --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    make --no-print-directory build BUILD_DIR="$build"
# Only now: no timestamp gets into the library, and crates with C in them would be built anew for each commit.
export SOURCE_DATE_EPOCH=$epoch

say "packing $name $revision"
work=target/deb/$name
root=$work/root
doc=$root/usr/share/doc/$name
extension=$root/usr/share/postgresql/$PG_MAJOR/extension
library=usr/lib/postgresql/$PG_MAJOR/lib/api_tokens.so
rm -rf "$work"
install -d "$root/DEBIAN" "$doc/docs" "$doc/examples" "$extension" "$root/${library%/*}" "$work/debian"
install -m 644 "$build/release/libapi_tokens.so" "$root/$library"
strip --strip-unneeded --remove-section=.comment "$root/$library"
install -m 644 api_tokens.control sql/api_tokens--*.sql "$extension"
install -m 644 README.md "$doc"
[ ! -f SECURITY.md ] || install -m 644 SECURITY.md "$doc"
install -m 644 docs/*.md "$doc/docs"
install -m 644 examples/*.* "$doc/examples"
scripts/copyright.py "pg$PG_MAJOR" >"$doc/copyright"
gzip -9nc CHANGELOG.md >"$doc/changelog.gz"
gzip -9nc >"$doc/changelog.Debian.gz" <<END
$name ($revision) unstable; urgency=medium

  * Release $version. What is new in it: changelog.gz.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# dpkg-shlibdeps knows which version of libc has the functions in use; it wants the form of a source package.
printf 'Source: api-tokens\n\nPackage: %s\nArchitecture: any\n' "$name" >"$work/debian/control"
libraries=$(cd "$work" && dpkg-shlibdeps --warnings=0 -O "root/$library" | sed 's/^shlibs:Depends=//')
cat >"$root/DEBIAN/control" <<END
Package: $name
Source: api-tokens
Version: $revision
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(find "$root/usr" -printf '%y %s\n' | awk '{ kb += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print kb }')
Depends: postgresql-$PG_MAJOR, $libraries
Section: database
Priority: optional
Description: API tokens and an encrypted vault inside PostgreSQL $PG_MAJOR
 SQL functions that issue, check, rotate, revoke and clean up API tokens, of
 which only a SHA-256 is stored, and a vault that keeps third parties' keys
 encrypted under a key that lies outside of the database.
 .
 Row security policies and triggers can ask which token a transaction acts as.
 .
 After installing, run CREATE EXTENSION api_tokens in a database.
END
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)

deb=target/dist/${name}_${revision}_$arch.deb
mkdir -p target/dist
dpkg-deb --root-owner-group --build "$root" "$deb" >/dev/null
rm -rf "$work"
say "$deb: $(stat -c %s "$deb") bytes, sha256 $(sha256sum "$deb" | cut -d' ' -f1)"
