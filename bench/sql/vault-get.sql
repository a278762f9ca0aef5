\set i random(0, 999)
SELECT api_vault_get('bench', 'key-' || :i::text);
