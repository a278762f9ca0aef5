-- 1000 values of 64 bytes, and 500 as pgcrypto encrypts them; one as a client encrypts it.
SELECT count(api_vault_store('bench', 'key-' || i, repeat('v', 64))) FROM generate_series(0, 999) i;
SELECT api_vault_store_encrypted('bench', 'client', encrypted_value, iv)
FROM api_vault_encrypt_value(repeat('v', 64), 'a passphrase');
CREATE TABLE pgp_values AS SELECT i, pgp_sym_encrypt(repeat('v', 64), 'a passphrase') AS sealed
FROM generate_series(1, 500) i;
ALTER TABLE pgp_values ADD PRIMARY KEY (i);
VACUUM ANALYZE pgp_values;
