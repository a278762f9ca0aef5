# Two throwaway clusters, side by side: the same settings and rows, one preloads the library.
# Sourced by run.sh.

declare -A socket_of
SERVERS="plain preloaded"

# A server with this much memory is run with huge pages; root can have them for the time of the
# run, anybody else has what there is.
reserve_huge_pages() {
    huge_pages_before=$(cat /proc/sys/vm/nr_hugepages 2>/dev/null || echo 0)
    megabytes=$(numfmt --from=iec "${SHARED_BUFFERS%B}" | awk '{print int($1 / 1048576)}')
    # Two servers, pages of 2 MB, a tenth more for what else is in shared memory.
    echo $((megabytes * 11 / 10 + 200)) 2>/dev/null >/proc/sys/vm/nr_hugepages || true
}

start_servers() {
    reserve_huge_pages
    for server in $SERVERS; do
        home=$(server_dir "bench-$server")
        remove_cluster "$home"
        preload=''
        [ "$server" = plain ] || preload=api_tokens
        # A crash is not measured, a checkpoint in the middle of a round would be.
        make_key_file "$home/vault.keys"
        start_cluster "$home" api_tokens.vault_key_file="'$home/vault.keys'" shared_buffers="$SHARED_BUFFERS" max_wal_size=16GB \
            checkpoint_timeout=1h autovacuum=off api_tokens.flush_interval="${FLUSH_INTERVAL}s" shared_preload_libraries="'$preload'"
        socket_of[$server]=$(socket_dir "$home")
    done
}

remove_servers() {
    for server in $SERVERS; do
        remove_cluster "$(server_dir "bench-$server")" || true
    done
    echo "$huge_pages_before" 2>/dev/null >/proc/sys/vm/nr_hugepages || true
}

has_huge_pages() { # do both servers?
    awk -v needed="$megabytes" '/HugePages_(Total|Rsvd)/ {n += $2} /HugePages_Free/ {n -= $2}
        END {print (n >= needed ? "with" : "without")}' /proc/meminfo
}

# sql SERVER TOKENS [psql arguments]: in the database of that size.
sql() {
    "$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -h "${socket_of[$1]}" -U "$SUPERUSER" -d "bench_$2" "${@:3}"
}

load() { # TOKENS; both servers at the same time
    for server in $SERVERS; do
        "$BIN/createdb" -h "${socket_of[$server]}" -U "$SUPERUSER" "bench_$1"
        sql "$server" "$1" -v tokens="$1" -f bench/sql/load.sql &
        loads[${#loads[@]}]=$!
    done
    for one in "${loads[@]}"; do wait "$one"; done
    loads=()
}
loads=()
