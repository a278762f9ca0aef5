#!/usr/bin/env bash
# need.sh PACKAGE...: installs those Debian packages that are missing. Quick when all are there.
set -euo pipefail
missing=()
for package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} != 0 ] || exit 0

command -v apt-get >/dev/null || { echo "error: please install: ${missing[*]}" >&2; exit 1; }
echo "== installing Debian packages: ${missing[*]}" >&2
if [ "$(id -u)" = 0 ]; then sudo=(); else sudo=(sudo); fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
