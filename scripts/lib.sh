# Shared by the scripts here and in bench/: where the server is, who runs it, how a throwaway
# cluster is made. Sourced, with `set -eu` already on and the working directory at the root.

PG_CONFIG=${PG_CONFIG:-pg_config}
BIN=$("$PG_CONFIG" --bindir)
# Empty without a server: what needs none says PG_CONFIG=/bin/true.
PG_MAJOR=$({ "$BIN/postgres" --version 2>/dev/null || true; } | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
SUPERUSER=postgres

# has_library NAME: does the server have this module?
has_library() { [ -f "$("$PG_CONFIG" --pkglibdir)/$1.so" ]; }

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Postgres refuses to run as root, so root hands over to the user postgres, in a folder it may enter.
as_server() {
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

# A folder below target/ that the server's user can reach; a clone in /root is closed to it.
server_dir() {
    dir=$PWD/target/$1
    mkdir -p "$dir"
    if [ "$(id -u)" = 0 ] && ! as_server test -x "$PWD/target"; then
        dir=/var/tmp/api_tokens-$(printf '%s' "$PWD" | cksum | cut -d' ' -f1)-$1
        mkdir -p "$dir"
    fi
    [ "$(id -u)" != 0 ] || chown postgres "$dir"
    printf '%s' "$dir"
}

# Sockets have their own short folder: their path may have 107 bytes at most.
socket_dir() {
    dir=/tmp/.api_tokens-$(printf '%s' "$1" | cksum | cut -d' ' -f1)
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres "$dir"
    printf '%s' "$dir"
}

is_running() { [ -d "$1/data" ] && as_server "$BIN/pg_ctl" -D "$1/data" status >/dev/null 2>&1; }

# make_key_file FILE: a key ring for the vault with one key, if there is none, only for the server.
make_key_file() {
    [ ! -f "$1" ] || return 0
    (umask 077 && printf '%s made by %s\n' "$(head -c 32 /dev/urandom | base64)" "$(basename "$0")" >"$1")
    [ "$(id -u)" != 0 ] || chown postgres "$1"
}

# start_cluster DIR [name=value ...]: makes the cluster if there is none, and starts it.
start_cluster() {
    cluster=$1
    shift
    socket=$(socket_dir "$cluster")
    if [ -f "$cluster/data/PG_VERSION" ] && [ "$(cat "$cluster/data/PG_VERSION")" != "$PG_MAJOR" ]; then
        stop_cluster "$cluster"
        rm -rf "$cluster/data"
    fi
    if [ ! -f "$cluster/data/PG_VERSION" ]; then
        rm -rf "$cluster/data"
        as_server "$BIN/initdb" -D "$cluster/data" -U "$SUPERUSER" -A trust -E UTF8 --no-locale \
            --no-sync >"$cluster.initdb.log" 2>&1 || { cat "$cluster.initdb.log" >&2; die "initdb failed"; }
    fi
    is_running "$cluster" && return 0
    # In a file and not on the command line, so that a standby made from it has them too.
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$socket'" \
        "max_connections = 200" "$@" >"$cluster/data/postgresql.auto.conf"
    as_server "$BIN/pg_ctl" -D "$cluster/data" -l "$cluster/server.log" -w start \
        >/dev/null || { tail -20 "$cluster/server.log" >&2; die "the server did not start"; }
}

stop_cluster() {
    if is_running "$1"; then
        as_server "$BIN/pg_ctl" -D "$1/data" -m fast -w stop >/dev/null
    fi
}

# Ends the cluster and leaves nothing of it in its folder.
remove_cluster() {
    stop_cluster "$1"
    rm -rf "${1:?}"/* "$(socket_dir "$1")"
}

# new_cluster NAME SETTINGS...: a fresh one for the tests, with the extension in a template database.
new_cluster() {
    cluster=$(server_dir "$1")
    shift
    say "starting a cluster of Postgres $PG_MAJOR ${1:+with $1}"
    remove_cluster "$cluster"
    make_key_file "$cluster/vault.keys"
    start_cluster "$cluster" "$@" api_tokens.vault_key_file="'$cluster/vault.keys'" fsync=off max_prepared_transactions=10 max_wal_senders=10 \
        autovacuum_naptime=600
    socket=$(socket_dir "$cluster")
    for do in "postgres CREATE DATABASE api_tokens_template" \
        "api_tokens_template CREATE EXTENSION api_tokens"; do
        as_server "$BIN/psql" -qX -h "$socket" -U "$SUPERUSER" -d "${do%% *}" -c "${do#* }" >/dev/null
    done
    export API_TOKENS_TEST_HOST=$socket API_TOKENS_TEST_CLUSTER=$cluster API_TOKENS_TEST_BIN=$BIN
}
