#!/usr/bin/env bash
# in-debian.sh SUITE COMMAND...: makes a minimal Debian of that release below target/, from the archive that apt of this
# machine uses, runs the command there as root, and removes it. In its /src are the files that are committed, and elsewhere
# this machine's Rust and what cargo has downloaded; or, where FILES names some, those files and no Rust. What the
# command leaves in target/dist is brought back.
set -euo pipefail
cd "$(dirname "$0")/.."
PG_CONFIG=/bin/true . scripts/lib.sh
[ $# -ge 2 ] || die "usage: scripts/in-debian.sh SUITE COMMAND..."
[ "$(id -u)" = 0 ] || die "a chroot needs root"
scripts/need.sh mmdebstrap
export suite=$1
shift

mkdir -p target
work=$(mktemp -d "$PWD/target/debian.XXXXXX")
export work root=$work/root
child=
# Killed, and waited for, so that nothing in it still writes when its folder goes.
trap '[ -z "$child" ] || { kill -KILL "$child" && wait "$child"; } 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

debian_sources() {
    apt-get indextargets --format '$(ORIGIN) deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        sed -n 's/^Debian deb/deb/p' | sort -u
}
# Without its lists, apt does not know which of its sources are Debian.
[ -n "$(debian_sources)" ] || apt-get update -qq
debian_sources | sed "s/ $(. /etc/os-release && echo "$VERSION_CODENAME")/ $suite/" >"$work/sources.list"
[ -s "$work/sources.list" ] || die "apt of this machine has no source that is Debian"
apt-config dump --format '%f "%v";%n' Acquire::http::Proxy Acquire::https::Proxy >"$work/apt.conf"
# The lists of a Debian that is not released yet are valid for a week, and a mirror may have stood still for longer. What signs
# them is checked as ever.
case $suite in forky | sid) echo 'Acquire::Check-Valid-Until "false";' >>"$work/apt.conf" ;; esac

bring() {
    mkdir "$root/src"
    if [ -n "${FILES:-}" ]; then
        # shellcheck disable=SC2086
        cp $FILES "$root/src"
        return
    fi
    git archive HEAD | tar -x -C "$root/src"
    mkdir -p "$root/opt/rust" "$root/root/.cargo/registry"
    tar -c -C "$(rustc --print sysroot)" --exclude=./share . | tar -x -C "$root/opt/rust"
    cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/{cache,index} "$root/root/.cargo/registry"
    # Whom this machine trusts, the packages of Python and Node come from.
    cp /etc/ssl/certs/ca-certificates.crt "$root/opt/trusted.pem"
    chroot "$root" apt-get install -y -qq --no-install-recommends make >/dev/null
}

inside() {
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory --aptopt="$work/apt.conf" \
        "$suite" "$root" "$work/sources.list"
    cp /etc/resolv.conf /etc/hosts "$root/etc"
    # No server starts by itself when its package is installed.
    install -m 755 /dev/stdin "$root/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/dev/shm"
    chroot "$root" apt-get update -qq
    bring
    chroot "$root" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" \
        SSL_CERT_FILE=/opt/trusted.pem PIP_CERT=/opt/trusted.pem NODE_EXTRA_CA_CERTS=/opt/trusted.pem \
        sh -c 'cd /src && exec "$@"' sh "$@" </dev/null
}
export -f bring inside

say "in a minimal Debian $suite: $*"
# The namespaces end with their first process, and with them every process and mount in the chroot, however it ends. That
# process is bash, as it also waits for those whose parents have ended.
TMPDIR=$work unshare --mount --pid --ipc --fork --kill-child --mount-proc bash -euo pipefail -c 'inside "$@"' bash "$@" &
child=$!
wait "$child" || die "in Debian $suite this failed: $*"
child=
[ ! -d "$root/src/target/dist" ] || { mkdir -p target/dist && cp "$root"/src/target/dist/* target/dist; }
