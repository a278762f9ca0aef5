# The vault beside pgcrypto, in the database of the main size, not preloaded. Sourced by run.sh.

# per_call WHO CALLS SQL: microseconds per call, of so many in one statement.
per_call() {
    time=$(milliseconds plain "$MAIN" "$3")
    record vault "$1" "$MAIN" 1 "$(awk -v ms="$time" -v calls="$2" 'BEGIN {printf "%.3f", 1000 * ms / calls}')"
}

# OpenSSL's own measure of the bare cipher, the key already set up.
bare_cipher() {
    openssl speed -elapsed -seconds 1 -bytes 64 -evp aes-256-gcm 2>/dev/null |
        awk '/^(AES-256-GCM|aes-256-gcm)/ {sub(/k$/, "", $2); printf "%.3f", 64 / ($2 * 1000) * 1e6}'
}

measure_vault() {
    say "the vault"
    sql plain "$MAIN" -f bench/sql/vault-load.sql
    for round in $(seq 0 "$ROUNDS"); do
        [ "$round" != 1 ] || sed -i '/^vault\t/d' "$raw" # the round before the first warms up
        per_call get 50000 "SELECT count(api_vault_get('bench', 'key-' || i % 1000)) FROM generate_series(1, 50000) i"
        per_call pgp_decrypt 500 "SELECT count(pgp_sym_decrypt(sealed, 'a passphrase')) FROM pgp_values"
        per_call kdf 20 "SELECT count(api_vault_decrypt_value(encrypted_value, iv, 'a passphrase')) FROM api_vault_get_encrypted('bench', 'client'), generate_series(1, 20)"
        per_call store 5000 "SELECT count(api_vault_store('bench', 'key-' || i % 1000, repeat('v', 64))) FROM generate_series(1, 5000) i"
        per_call pgp_encrypt 500 "SELECT count(pgp_sym_encrypt(repeat('v', 64), 'a passphrase')) FROM generate_series(1, 500) i"
        record vault bare "$MAIN" 1 "$(bare_cipher)"
        record vault_tps get "$MAIN" 2 "$(per_second plain "$MAIN" 2 bench/sql/vault-get.sql -T "$SECONDS_EACH")"
        record vault_tps pgp_decrypt "$MAIN" 2 "$(per_second plain "$MAIN" 2 bench/sql/vault-pgp.sql -T "$SECONDS_EACH")"
        record vault_tps store "$MAIN" 2 "$(per_second plain "$MAIN" 2 bench/sql/vault-store.sql -T "$SECONDS_EACH")"
    done
    measure_vault_rotation
}

# Another KEK for many namespaces, then another data key for many values of one.
measure_vault_rotation() {
    say "rekey of $VAULT_ROWS namespaces, rotation of $VAULT_ROWS values"
    sql plain "$MAIN" -c "SELECT count(api_vault_store('namespace-' || i, 'key', repeat('v', 64))) FROM generate_series(1, $VAULT_ROWS) i" \
        -c "SELECT count(api_vault_store('many', 'key-' || i, repeat('v', 64))) FROM generate_series(1, $VAULT_ROWS) i" \
        -c "VACUUM ANALYZE api_tokens.vault_deks, api_tokens.vault_versions, api_tokens.vault_secrets" -c CHECKPOINT >/dev/null
    keys=$(server_dir bench-plain)/vault.keys
    { head -c 32 /dev/urandom | base64; cat "$keys"; } >"$keys.new"
    cat "$keys.new" >"$keys"
    rm "$keys.new"
    sql plain "$MAIN" -c "SELECT pg_reload_conf()" >/dev/null
    sleep 0.5
    rate() { awk -v ms="$1" -v rows="$VAULT_ROWS" 'BEGIN {printf "%.0f", 1000 * rows / ms}'; }
    record vault_rate rekey "$MAIN" 1 "$(rate "$(milliseconds plain "$MAIN" "CALL api_vault_rekey()" 2>/dev/null)")"
    record vault_rate rotate "$MAIN" 1 "$(rate "$(milliseconds plain "$MAIN" "CALL api_vault_rotate_dek('many')" 2>/dev/null)")"
    [ "$(sql plain "$MAIN" -c "SELECT sum(count) FROM api_vault_verify() WHERE result <> 'ok'")" = "" ] || die "something does not open"
}
