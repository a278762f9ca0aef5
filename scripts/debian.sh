# Sourced: which Postgres there is to install, here and in which Debian.

# debian_with MAJOR: the release of Debian that has this Postgres; nothing if none has it any more.
debian_with() {
    case $1 in
    15) echo bookworm ;;
    17) echo trixie ;;
    18) echo forky ;;
    esac
}

# debian_major PG_CONFIG: which Postgres that is, if it lies where Debian's packages put it.
debian_major() { printf '%s\n' "$1" | sed -n 's,^/usr/lib/postgresql/\([0-9]*\)/bin/pg_config$,\1,p'; }

# is_offered MAJOR: is this Postgres installed from a package, or can apt install it?
is_offered() {
    [ ! -x "/usr/lib/postgresql/$1/bin/initdb" ] || return 0
    command -v apt-cache >/dev/null || return 1
    # On a new machine apt has no lists yet, and knows nothing.
    apt-cache show postgresql-common >/dev/null 2>&1 || $([ "$(id -u)" = 0 ] || echo sudo) apt-get update -qq >&2
    apt-cache show "postgresql-server-dev-$1" >/dev/null 2>&1
}
