\set i random(1, 500)
SELECT pgp_sym_decrypt(sealed, 'a passphrase') FROM pgp_values WHERE i = :i;
