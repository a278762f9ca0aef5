#!/usr/bin/env bash
# test-deb-inside.sh MAJOR DEB: runs as root in the minimal Debian of test-deb.sh; the last line is "N passed, N failed".
set -euo pipefail
major=$1 deb=$2 name=postgresql-$1-api-tokens
passed=0 failed=0

# expect WHAT GOT WANTED
expect() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1)) && echo "ok      $1"
    else
        failed=$((failed + 1)) && echo "FAILED  $1: got '$2', not '$3'"
    fi
}
sql() { runuser -u postgres -- psql -qXAt -v ON_ERROR_STOP=1 -d app -c "$1"; }
cd /

expect "no Postgres before" "$(command -v psql || echo none)" none
apt-get install -y -qq --no-install-recommends "$deb" >/root/apt.log 2>&1 || { cat /root/apt.log; exit 1; }
expect "apt installed it" "$(dpkg-query -W -f '${db:Status-Status}' "$name")" installed
expect "and the server with it" "$(dpkg-query -W -f '${db:Status-Status}' "postgresql-$major")" installed
expect "its files are as they were packed" "$(dpkg --verify "$name")" ""
dpkg -L "$name" | grep -v "^/\.$" >/root/files

conf=/etc/postgresql/$major/main
keys=$conf/vault.keys
runuser -u postgres -- sh -c "umask 077; head -c 32 /dev/urandom | base64 >$keys"
cat >"$conf/conf.d/ours.conf" <<END
shared_preload_libraries = 'api_tokens'
api_tokens.vault_key_file = '$keys'
END
pg_ctlcluster "$major" main start
runuser -u postgres -- createdb app
sql "CREATE EXTENSION api_tokens"
expect "the extension has the version of the package" \
    "$(sql "SELECT extversion FROM pg_extension WHERE extname = 'api_tokens'")" \
    "$(dpkg-query -W -f '${source:Upstream-Version}' "$name")"
token=$(sql "SELECT token FROM api_token_create('acme', 'test', scopes => '{orders:read}')")
expect "a token is accepted" "$(sql "SELECT ok, namespace FROM api_token_validate('$token', '{orders:read}')")" "t|acme"
expect "its scope is not exceeded" "$(sql "SELECT ok, reason FROM api_token_validate('$token', '{orders:write}')")" \
    "f|insufficient_scope"
expect "it is revoked" "$(sql "SELECT api_token_invalidate('$token')")" t
expect "and then refused" "$(sql "SELECT ok, reason FROM api_token_validate('$token')")" "f|revoked"
expect "a secret is stored" "$(sql "SELECT api_vault_store('acme', 'stripe', 'sk_live_51Hx')")" 1
expect "and opened" "$(sql "SELECT api_vault_get('acme', 'stripe')")" sk_live_51Hx
sql "DROP EXTENSION api_tokens"
expect "dropped, it leaves no object" \
    "$(sql "SELECT count(*) FROM pg_proc WHERE proname LIKE 'api\_%'"; sql "SELECT to_regnamespace('api_tokens') IS NULL")" \
    $'0\nt'

rm "$conf/conf.d/ours.conf"
apt-get purge -y -qq "$name" >/root/apt.log 2>&1 || { cat /root/apt.log; exit 1; }
expect "purged, dpkg does not know it" "$(dpkg-query -W "$name" 2>/dev/null || echo unknown)" unknown
while read -r path; do
    # A folder may stay where another package has it too.
    [ ! -e "$path" ] || dpkg -S "$path" 2>/dev/null >/root/owner || echo "$path"
done </root/files >/root/left
expect "nothing it brought is left" "$(cat /root/left)" ""
expect "nor anything of its name" "$(find / -xdev \( -name '*api_tokens*' -o -name '*api-tokens*' \) ! -path '/src/*' ! -path '/proc/*')" ""
pg_ctlcluster "$major" main restart
expect "the server goes on without it" "$(sql "SELECT 1")" 1

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
