#!/usr/bin/env bash
# Builds the Dockerfile with buildah, starts Postgres from the image and uses the extension. The official images cannot be had
# without a registry, so stand-ins with their paths are made of Debian's packages and of this machine's rustup: it
# shows that the Dockerfile works, not that it works on those.
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=/bin/true . scripts/lib.sh
. scripts/debian.sh
[ "$(id -u)" = 0 ] || die "buildah needs root here"
scripts/need.sh buildah

major=$(sed -n 's/^ARG PG=//p' Dockerfile)
rust=$(sed -n 's/^ARG RUST=//p' Dockerfile)
suite=$(sed -n 's/^FROM postgres:.*-\([a-z]*\)$/\1/p' Dockerfile)
mkdir -p target
work=$(mktemp -d "$PWD/target/docker.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
# Nothing of it lies where containers of this machine would.
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

# image NAME FILES: of a tar or a folder.
image() {
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$2" / >/dev/null
    buildah commit --quiet --rm "$container" "localhost/$1" >/dev/null
    rm -r "$2"
    say "a stand-in for the image $1 is made"
}

toolchain=$(rustc --print sysroot)
usr=$work/rust/usr/local
mkdir -p "$usr/rustup/toolchains" "$usr/cargo/registry"
cp -a "${toolchain%/toolchains/*}/settings.toml" "$usr/rustup"
tar -c -C "${toolchain%/*}" --exclude=share "${toolchain##*/}" | tar -x -C "$usr/rustup/toolchains"
cp -a "${CARGO_HOME:-$HOME/.cargo}/bin" "$usr/cargo"
cp -a "${CARGO_HOME:-$HOME/.cargo}"/registry/{cache,index} "$usr/cargo/registry"
image "rust:$rust-slim-$suite" "$work/rust"

FILES=Dockerfile scripts/in-debian.sh "$suite" sh -c "
    apt-get install -y -qq --no-install-recommends postgresql-$major >/dev/null && mkdir -p target/dist &&
    tar -c -f target/dist/base.tar -C / --one-file-system --exclude=./src ."
mv target/dist/base.tar "$work"
image "postgres:$major-$suite" "$work/base.tar"

say "building the Dockerfile"
buildah build --isolation chroot --pull-never --layers=false --quiet -t localhost/api_tokens . >"$work/build.log" 2>&1 ||
    { cat "$work/build.log"; die "the Dockerfile does not build"; }

say "starting Postgres from it"
container=$(buildah from --pull-never localhost/api_tokens)
# shellcheck disable=SC2016
buildah run --isolation chroot "$container" -- runuser -u postgres -- sh -euc '
    bin=/usr/lib/postgresql/$1/bin
    $bin/initdb -D /tmp/data -E UTF8 --no-locale >/dev/null
    $bin/pg_ctl -D /tmp/data -o "-c listen_addresses= -k /tmp -c shared_preload_libraries=api_tokens" -w start >/dev/null
    sql() { $bin/psql -qXAt -v ON_ERROR_STOP=1 -h /tmp -d postgres -c "$1"; }
    sql "CREATE EXTENSION api_tokens"
    token=$(sql "SELECT token FROM api_token_create(\$\$acme\$\$)")
    is=$(sql "SELECT ok, namespace FROM api_token_validate(\$\$$token\$\$)")
    $bin/pg_ctl -D /tmp/data -m fast -w stop >/dev/null
    [ "$is" = "t|acme" ]' sh "$major" || die "the extension does not work in the image"
say "the image of the Dockerfile works, on stand-ins for the official images: a token is accepted in it"
