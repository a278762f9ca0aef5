\set i random(0, 999)
SELECT api_vault_store('bench', 'key-' || :i::text, repeat('v', 64));
