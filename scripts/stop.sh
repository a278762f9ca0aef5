#!/usr/bin/env bash
# Ends the cluster that `make run` left up, and removes it.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
cluster=$(server_dir cluster)
remove_cluster "$cluster"
say "the throwaway cluster is gone"
