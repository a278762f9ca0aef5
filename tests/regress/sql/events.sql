-- Events: what happened in a namespace, and going on from a cursor.
SELECT token, token_id FROM api_token_create('events') \gset
SELECT token AS new_token FROM api_token_refresh(:'token') \gset
SELECT api_token_invalidate(:'new_token');
SELECT method, namespace, count, actor = current_user AS me, detail ? 'replaced_by' AS replaced
FROM api_token_events(namespace => 'events');
SELECT cursor FROM api_token_events(namespace => 'events', max_rows => 2) OFFSET 1 \gset
SELECT method FROM api_token_events(:'cursor', 'events');
SELECT cursor FROM api_token_events(:'cursor', 'events') \gset
SELECT count(*) FROM api_token_events(:'cursor', 'events');
SELECT count(*) FROM api_token_events('not a cursor');
