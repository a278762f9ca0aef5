#!/usr/bin/env bash
# Ours side by side with what one would write by hand, in one run on two throwaway servers of the
# same data, one of which preloads the library. Writes bench/RESULTS.md and bench/plots/.
#   make bench                                         about a quarter of an hour
#   QUICK=1 make bench                                 do the scripts work? Into target/, 1.5 minutes
#   SIZES="100000 1000000 10000000" SHARED_BUFFERS=8GB make bench      needs 50 GB of disk, 20 GB of memory
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
. bench/servers.sh
. bench/measure.sh
. bench/phases.sh
. bench/identity.sh
. bench/limits.sh
. bench/vault.sh

command="make bench"
if [ -n "${QUICK:-}" ]; then
    command="QUICK=1 $command"
    : "${SIZES:=10000 20000}" "${ROUNDS:=1}" "${SECONDS_EACH:=1}" "${LATENCY_CALLS:=2000}" "${WAL_CHECKS:=20000}" "${VAULT_ROWS:=2000}"
fi
for setting in SIZES ROUNDS SECONDS_EACH CLIENTS SHARED_BUFFERS; do
    [ -n "${QUICK:-}" ] || [ -z "${!setting:-}" ] || command="$setting='${!setting}' $command"
done
SIZES=${SIZES:-100000 1000000} ROUNDS=${ROUNDS:-5} SECONDS_EACH=${SECONDS_EACH:-2} CLIENTS=${CLIENTS:-1 2 8 32}
LATENCY_CALLS=${LATENCY_CALLS:-20000} WAL_CHECKS=${WAL_CHECKS:-200000} VAULT_ROWS=${VAULT_ROWS:-100000} SHARED_BUFFERS=${SHARED_BUFFERS:-3GB}
# Where the targets are: the largest size up to a million. Larger ones have only what grows.
for size in $SIZES; do [ "$size" -gt 1000000 ] || MAIN=$size; done
FLUSH_INTERVAL=10 # the default
[ -z "${QUICK:-}" ] || FLUSH_INTERVAL=1

# Figures of two builds, or of a machine that was busy with one, are not of one run.
library() { cksum <"$("$PG_CONFIG" --pkglibdir)/api_tokens.so"; }
library_before=$(library)

work=$PWD/target/bench raw=$PWD/target/bench/raw.tsv
mkdir -p "$work"
: >"$raw"
say "building the latency driver"
cargo build --release --locked --quiet --manifest-path bench/latency/Cargo.toml --target-dir target/bench-latency
trap remove_servers EXIT
start_servers
for tokens in $SIZES; do
    say "loading $tokens tokens, twice"
    load "$tokens"
done

HUGE_PAGES=$(has_huge_pages)
load_before=$(cut -d' ' -f1 /proc/loadavg)
measure_throughput
measure_clients
measure_latency
measure_in_server
measure_wal
measure_hot
measure_other_work
measure_identity
measure_limits
measure_vault
[ "$(library)" = "$library_before" ] || die "the library was installed anew during the run: nothing is written"

into=bench
[ -z "${QUICK:-}" ] || into=target/bench
mkdir -p "$into/plots"
export COMMAND=$command MAIN ROUNDS SECONDS_EACH FLUSH_INTERVAL LATENCY_CALLS WAL_CHECKS VAULT_ROWS SHARED_BUFFERS HUGE_PAGES
MACHINE="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, $(awk '/MemTotal/ {printf "%.0f GB", $2 / 1048576}' /proc/meminfo)"
POSTGRES=$("$BIN/postgres" --version | sed 's/.*) //; s/ (.*//')
LOAD="$load_before before the first measurement, $(cut -d' ' -f1 /proc/loadavg) after the last"
export MACHINE POSTGRES LOAD
python3 bench/report.py "$raw" >"$into/RESULTS.md"
python3 bench/plots.py "$raw" "$into/plots"
cat "$into/RESULTS.md"
