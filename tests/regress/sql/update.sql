-- Updating: present keys change, null clears, what is unknown is refused.
SELECT token_id FROM api_token_create('update', 'ci', '{"a": 1}', '{a}') \gset
SELECT name, metadata, scopes, max_idle, allowed_ips
FROM api_token_update(:'token_id', '{"scopes": ["b:*"], "max_idle": "1 hour", "allowed_ips": ["10.0.0.0/8"]}');
SELECT name, metadata, scopes, max_idle, allowed_ips
FROM api_token_update(:'token_id', '{"name": null, "metadata": {"b": 2}, "max_idle": null, "allowed_ips": null}');
SELECT api_token_update(:'token_id', '{"names": "x"}');
SELECT api_token_update(:'token_id', '{"expires_at": "soon"}');
SELECT api_token_update(:'token_id', '{"expires_at": "2001-01-01"}');
SELECT api_token_update(:'token_id', '[]');
SELECT api_token_update('00000000-0000-0000-0000-000000000000', '{}');
-- A typed view of the metadata.
SELECT m.plan, m.seats FROM api_token_update(:'token_id', '{"metadata": {"plan": "pro", "seats": 5}}') t,
    jsonb_to_record(t.metadata) AS m(plan text, seats integer);
