#!/usr/bin/env bash
# Checks the package with lintian, then installs, uses and purges it in a minimal Debian that is made for it, below
# target/, from the archive that apt of this machine uses.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
[ "$(id -u)" = 0 ] || die "a chroot needs root"
scripts/need.sh lintian mmdebstrap

version=$(scripts/version.sh)
deb=$(echo "target/dist/postgresql-$PG_MAJOR-api-tokens_$version-"*.deb)
[ -f "$deb" ] || die "there is not one package of $version for Postgres $PG_MAJOR in target/dist"
say "lintian on $deb"
lintian --allow-root --display-info --fail-on error,warning "$deb"

work=$PWD/target/test-deb
rm -rf "$work"
mkdir -p "$work"
chroot=
# Killed, and waited for, so that nothing in it still writes when its folder goes.
trap '[ -z "$chroot" ] || { kill -KILL "$chroot" && wait "$chroot"; } 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
# Without its lists, apt does not know which of its sources are Debian.
apt-get update -qq
apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/^Debian deb/deb/p' | sort -u >"$work/sources.list"
[ -s "$work/sources.list" ] || die "apt of this machine has no source that is Debian"
apt-config dump --format '%f "%v";%n' Acquire::http::Proxy Acquire::https::Proxy >"$work/apt.conf"

say "installing it in a minimal Debian (about two minutes)"
# The namespaces end with this command, and with them every process and mount in the chroot, however it ends.
TMPDIR=$work unshare --mount --pid --ipc --fork --kill-child --mount-proc \
    mmdebstrap --quiet --mode=root --variant=minbase --format=null --aptopt="$work/apt.conf" \
    --customize-hook="upload '$deb' '/root/${deb##*/}'" \
    --customize-hook='upload scripts/test-deb-inside.sh /root/inside.sh' \
    --customize-hook="chroot \"\$1\" bash /root/inside.sh '$PG_MAJOR' '/root/${deb##*/}'" \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" /dev/null "$work/sources.list" &
chroot=$!
wait "$chroot" || die "the package failed in the minimal Debian"
chroot=
