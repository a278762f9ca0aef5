-- Calls every function of the extension, in the ways that read and write memory of the server most differently, and
-- names those that it did not call, if all can be called: preloaded. Read by scripts/valgrind.sh.
\set ON_ERROR_STOP 1
\pset format unaligned
\pset tuples_only on
SET track_functions = 'all';
SELECT api_tokens.check_encoding();

-- Tokens: values in the row, compressed, and elsewhere.
SELECT api_token_set_metadata_schema('a*', '{"type": "object", "properties": {"a": {"pattern": "^x"}}}') \g /dev/null
CREATE TEMP TABLE made AS SELECT i, t.* FROM generate_series(1, 40) i, api_token_create('acme', repeat('n', i), CASE
    WHEN i % 4 = 0 THEN jsonb_build_object('a', repeat('x', 20000))
    WHEN i % 4 = 1 THEN (SELECT jsonb_build_object('b', string_agg(md5(n::text), '')) FROM generate_series(1, 400) n)
    END, '{a:*,b:read}', now() + interval '1 day', CASE WHEN i % 2 = 0 THEN interval '1 hour' END,
    allowed_ips => '{10.0.0.0/8,2001:db8::/32}', max_uses => CASE WHEN i % 3 = 0 THEN 10 END) t;
SELECT count(v) FROM made, api_token_validate(token, '{b:read}', '10.1.1.1') v;
SELECT reason, count(*) FROM made, api_token_validate(token, CASE WHEN i % 5 = 0 THEN '{c}'::text[] END,
    CASE WHEN i % 2 = 0 THEN inet '2001:db8::1' END, i) GROUP BY 1;
SELECT count(v) FROM made, api_token_validate_hash(sha256(token::bytea), NULL, '10.1.1.1') v;
SELECT count(v.metadata) FROM api_token_validate_many((SELECT array_agg(token) || NULL || ''::text || repeat('é', 3000) FROM made), '{b:read}', '10.1.1.1') v;
SELECT count(*) FROM made WHERE api_token_touch(token) AND api_token_looks_valid(token);
SELECT api_token_validate(NULL), api_token_validate(repeat('x', 1000000));
SELECT count(*) FROM api_token_list('acme', max_rows => 30), api_token_get(token_id);
SELECT count(u) FROM made, api_token_update(token_id, '{"name": null, "max_idle": "2 days", "metadata": {"a": "xyz"}, "scopes": ["a:*", "b:read"], "allowed_ips": null}') u WHERE i < 9;
SELECT count(*) FROM made WHERE api_token_set_enabled(token_id, i % 8 <> 0);
SELECT ok, reason, count(*) FROM made, api_token_refresh(token, '1 hour') WHERE i BETWEEN 10 AND 20 GROUP BY 1, 2;
SELECT ok, reason, count(*) FROM made, api_token_refresh_by_id(token_id, scopes => '{a:x}') WHERE i BETWEEN 15 AND 25 GROUP BY 1, 2;
SELECT api_token_import('old', sha256('an old token'), 'old_...', created_at => now() - interval '2 years', revoked_at => now() - interval '1 year') \g /dev/null
SELECT count(*) FROM made WHERE i > 30 AND api_token_invalidate(token);
SELECT count(*) FROM made WHERE i > 28 AND api_token_invalidate_by_id(token_id);
SELECT api_token_scope_covers('{a:*}', 'a:b'), api_token_cleanup('10 days');

-- Who the transaction acts as, across savepoints and errors.
BEGIN;
SELECT api_token_require(token, client_ip => '10.1.1.1') FROM made WHERE i = 1 \g /dev/null
SELECT count(api_token_current_id()), count(api_token_current_name()), count(api_token_current_namespace()),
    count(api_token_current_scopes()), count(api_token_current_metadata()), count(api_token_require_current('{a:x}')) FROM generate_series(1, 20);
SAVEPOINT s;
SELECT ok, reason FROM made, api_token_authenticate(token) WHERE i = 39;
\set ON_ERROR_STOP 0
SELECT api_token_require_current();
\set ON_ERROR_STOP 1
ROLLBACK TO s;
SELECT api_token_has_scope('a:x'), api_token_deauthenticate();
COMMIT;
BEGIN;
SELECT set_config('request.headers', json_build_object('authorization', 'Bearer ' || token, 'x-forwarded-for', '10.1.1.1')::text, true) FROM made WHERE i = 3 \g /dev/null
SELECT api_token_from_header('Bearer  x'), api_token_pre_request();
COMMIT;
CREATE TEMP TABLE owners (name text, b text);
CREATE TRIGGER t AFTER UPDATE OR DELETE ON owners FOR EACH ROW EXECUTE FUNCTION api_token_invalidate_owner('name');
INSERT INTO owners VALUES ('acme', 'x'), ('other', repeat('long', 1000));
UPDATE owners SET name = 'new' WHERE name = 'other';
DELETE FROM owners;

-- The vault.
SELECT count(api_vault_store('acme', 'k' || i % 10, repeat(md5(i::text), i * 20), metadata => '{"a": 1}')) FROM generate_series(1, 60) i;
SELECT count(api_vault_get('acme', 'k' || i)), count(api_vault_get('acme', 'k' || i, 3)) FROM generate_series(0, 10) i;
SELECT api_vault_rollback('acme', 'k1', 2), api_vault_delete('acme', 'k2'), api_vault_undelete('acme', 'k2'), api_vault_destroy('acme', 'k3', 1);
SELECT (SELECT count(*) FROM api_vault_list('acme', true)), (SELECT count(*) FROM api_vault_versions('acme', 'k4'));
SELECT api_vault_decrypt_value(encrypted_value, iv, 'secret') FROM api_vault_encrypt_value('plain', 'secret');
SELECT api_vault_store_encrypted('acme', 'client', encode('0123456789abcdef0123456789abcdef', 'base64'), encode('0123456789ab', 'base64')), api_vault_get_encrypted('acme', 'client') IS NULL;
SELECT api_vault_rotate_dek_begin('acme'), api_vault_rotate_dek_step('acme', 7);
CALL api_vault_rotate_dek('acme', 10);
SELECT api_vault_rekey_step();
CALL api_vault_rekey();
SELECT count(*) FROM api_vault_key_status();
SELECT * FROM api_vault_verify();
SELECT api_vault_shred('acme', 'acme');

-- Rights, events, counters; and the rate limits, which need preloading.
CREATE ROLE called;
SELECT api_tokens_grant('called', 'admin'), api_tokens_revoke('called', 'admin');
SELECT count(*) FROM api_tokens_doctor();
SELECT api_token_events_end() IS NULL, count(e.cursor), count(e.detail) FROM api_token_events() e;
SELECT count(*) FROM api_token_events((SELECT cursor FROM api_token_events(max_rows => 5) ORDER BY event_id DESC LIMIT 1), 'acme', 7);
\if :preloaded
SELECT api_token_set_namespace_limit('limited', 30, '1 hour');
SELECT token AS limited FROM api_token_create('limited', rate_limit => 5, rate_window => '1 hour') \gset
SELECT reason, count(*), count(retry_after) FROM generate_series(1, 10) i, api_token_validate(:'limited' || left(i::text, 0)) GROUP BY 1;
-- So long that a flush takes place.
SELECT pg_sleep(3);
SELECT count(*) FROM api_token_usage(namespace => 'acme');
SELECT calls > 0, rows_flushed > 0 FROM api_token_stats();
\else
\set ON_ERROR_STOP 0
SELECT api_token_set_namespace_limit('limited', 30, '1 hour');
SELECT api_token_create('limited', rate_limit => 5, rate_window => '1 hour');
SELECT api_token_stats();
\set ON_ERROR_STOP 1
\endif
SELECT api_token_set_metadata_schema('a*', NULL), api_token_invalidate_all('limited', after => now() - interval '1 day');

\if :preloaded
SELECT pg_stat_force_next_flush();
SELECT 'not called: ' || p.oid::regprocedure FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e' AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'api_tokens')
    AND coalesce(pg_stat_get_function_calls(p.oid), 0) = 0;
\endif
