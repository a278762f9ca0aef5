#!/usr/bin/env bash
# A script that was released is not edited: whoever installed it has what it said then. And every
# script that is neither released nor of this version is a mistake. See RELEASING.md.
set -euo pipefail
cd "$(dirname "$0")/../sql"
sha256sum --check --strict --quiet released.sha256 ||
    { echo "error: a released script was edited: put the change into the upgrade script" >&2; exit 1; }
version=$(../scripts/version.sh)
for script in api_tokens--*.sql; do
    case $script in *"--$version.sql") continue ;; esac
    grep -q "  $script\$" released.sha256 || { echo "error: $script is neither released nor of $version" >&2; exit 1; }
done
