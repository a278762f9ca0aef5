#!/usr/bin/env bash
# cassert.sh COMMAND ARGUMENTS...: runs a command with PG_CONFIG set to a Postgres that checks itself, and with the
# extension installed there, itself compiled with its checks. For instance
#   scripts/cassert.sh make test
#   MINUTES=20 scripts/cassert.sh scripts/sqlsmith.sh
# The server is made once (ten minutes), from Debian's source package.
set -eu
cd "$(dirname "$0")/.."
PG_CONFIG=/bin/true . scripts/lib.sh
major=15
dir=$(server_dir cassert)

# fetch_source: the newest one there is in the archive of Debian that this machine uses; apt's own lists stay as they are.
fetch_source() {
    mkdir -p lists/partial
    apt-get indextargets --format '$(ORIGIN) deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian deb-src/deb-src/p' | sort -u >sources.list
    [ -s sources.list ] || die "apt of this machine has no source that is Debian"
    apt=(-qq -o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$PWD/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update
    # The archive of security updates may list a version that it has no source of.
    for version in $(apt-cache "${apt[@]}" showsrc "postgresql-$major" | sed -n 's/^Version: //p' | sort -Vr); do
        apt-get "${apt[@]}" --download-only source "postgresql-$major=$version" 2>&1 && return
    done
    die "the archive has no source of Postgres $major"
}

build_server() {
    "$root/scripts/need.sh" dpkg-dev gcc libc6-dev make perl bison flex zlib1g-dev libssl-dev valgrind
    fetch_source
    dpkg-source --no-check -x ./*.dsc source
    cd source
    # Beside assertions: fresh memory is filled with rubbish. (Not -DRELCACHE_FORCE_RELEASE: a hundred times slower.)
    ./configure --prefix="$dir/postgresql" --enable-cassert --enable-debug --without-readline --with-openssl CFLAGS="-O1 -g \
        -DUSE_VALGRIND -DRANDOMIZE_ALLOCATED_MEMORY"
    nice make -s -j "$(nproc)"
    for part in . src/test/regress src/test/isolation contrib/{pg_stat_statements,auto_explain,pgcrypto,pg_prewarm}; do
        nice make -s -C "$part" install
    done
    cp src/tools/valgrind.supp "$dir/postgresql"
    chmod -R a+rX "$dir/postgresql"
}

if [ ! -f "$dir/ready" ]; then
    say "building Postgres $major with assertions (ten minutes; $dir/build.log)" >&2
    rm -rf "${dir:?}"/*
    root=$PWD
    trap 'tail -20 "$dir/build.log" >&2' EXIT
    # Not a part of a condition, in which `set -e` would be off.
    (cd "$dir" && build_server) >"$dir/build.log" 2>&1
    trap - EXIT
    touch "$dir/ready"
fi
# Another folder than Debian's 15: types of the server may differ.
export PG_CONFIG=$dir/postgresql/bin/pg_config BUILD_DIR=target/cassert-build
export CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
make --no-print-directory install
"$@"
