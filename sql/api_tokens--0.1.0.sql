-- api_tokens 0.1.0: the contract. Tables first, then the functions in the order of a token's life,
-- then rights. Every function is commented; every operator in a body is qualified.
\echo Use "CREATE EXTENSION api_tokens" to load this file. \quit

-- The schema of the tables has a fixed name; the functions go where CREATE EXTENSION says.
CREATE SCHEMA api_tokens;
REVOKE ALL ON SCHEMA api_tokens FROM PUBLIC;
COMMENT ON SCHEMA api_tokens IS 'Tables of the extension api_tokens; reached through its functions only';

-- Refused in a database whose encoding is not UTF8.
CREATE FUNCTION api_tokens.check_encoding() RETURNS void LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'check_encoding_wrapper';
COMMENT ON FUNCTION api_tokens.check_encoding() IS 'An error where texts are not UTF-8';
SELECT api_tokens.check_encoding();


-- Tables --------------------------------------------------------------------------------------

-- Column numbers are known to src/store/columns.rs: append, never reorder. Fixed width and
-- NOT NULL first, so that a check reaches what it needs cheaply, and last_used_at and use_count
-- can be overwritten in place; no index may hold these two. fillfactor leaves room for HOT updates.
CREATE TABLE api_tokens.tokens (
    token_id        uuid        NOT NULL,
    family_id       uuid        NOT NULL,
    created_at      timestamptz NOT NULL,
    last_used_at    timestamptz NOT NULL,
    use_count       bigint      NOT NULL DEFAULT 0,
    generation      integer     NOT NULL DEFAULT 0,
    enabled         boolean     NOT NULL DEFAULT true,
    in_grace        boolean     NOT NULL DEFAULT false,
    token_hash      bytea       NOT NULL,
    namespace       text        NOT NULL,
    token_prefix    text        NOT NULL,
    scopes          text[]      NOT NULL DEFAULT '{}',
    expires_at      timestamptz,
    revoked_at      timestamptz,
    max_idle        interval,
    max_expires_at  timestamptz,
    replaced_by     uuid,
    allowed_ips     cidr[],
    name            text,
    metadata        jsonb,
    CONSTRAINT tokens_pkey PRIMARY KEY (token_id),
    CONSTRAINT tokens_token_hash_key UNIQUE (token_hash),
    CONSTRAINT tokens_hash_is_sha256 CHECK (pg_catalog.octet_length(token_hash) = 32),
    CONSTRAINT tokens_grace_has_end CHECK (NOT in_grace OR revoked_at IS NOT NULL)
) WITH (fillfactor = 85);

-- Listing a namespace, newest first: ids order by creation.
CREATE INDEX tokens_namespace_idx ON api_tokens.tokens (namespace, token_id);
-- One heir per token, and all members of a family; first tokens are found by their id.
CREATE UNIQUE INDEX tokens_family_idx ON api_tokens.tokens (family_id, generation) WHERE generation > 0;
-- The parent of a token, while it is in grace.
CREATE INDEX tokens_grace_idx ON api_tokens.tokens (replaced_by) WHERE in_grace;
-- Cleanup, oldest death first; and the tokens that may have died of idleness.
CREATE INDEX tokens_died_idx ON api_tokens.tokens ((LEAST(revoked_at, expires_at)))
    WHERE LEAST(revoked_at, expires_at) IS NOT NULL;
CREATE INDEX tokens_idle_idx ON api_tokens.tokens (token_id) WHERE max_idle IS NOT NULL;

COMMENT ON TABLE api_tokens.tokens IS 'One row per token; of the token itself only its SHA-256';
COMMENT ON COLUMN api_tokens.tokens.family_id IS 'Id of the first token of a line of rotations';
COMMENT ON COLUMN api_tokens.tokens.generation IS 'How many rotations lie between the first token and this one';
COMMENT ON COLUMN api_tokens.tokens.use_count IS 'Accepted checks and touches that were kept in shared memory; needs preloading';
COMMENT ON COLUMN api_tokens.tokens.in_grace IS 'revoked_at is the end of a grace period; otherwise a revocation is final, whatever the clock says';

CREATE TABLE api_tokens.events (
    event_id   bigint      GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL,
    method     text        NOT NULL,
    namespace  text,
    token_id   uuid,
    count      bigint,
    actor      text        NOT NULL,
    detail     jsonb,
    xid        xid8        NOT NULL,
    cluster    bigint      NOT NULL,
    timeline   integer     NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (event_id)
);
-- What is new to a reader, by transaction; and retention, by time.
CREATE INDEX events_xid_idx ON api_tokens.events (xid);
CREATE INDEX events_at_idx ON api_tokens.events USING brin (at);

COMMENT ON TABLE api_tokens.events IS 'One row per change, written in the transaction of the change';
COMMENT ON COLUMN api_tokens.events.xid IS 'The transaction that wrote it: what a reader has seen is a set of transactions';
COMMENT ON COLUMN api_tokens.events.cluster IS 'System identifier of the cluster that xid belongs to';
COMMENT ON COLUMN api_tokens.events.timeline IS 'Timeline of that cluster: after a promotion some xids are used again';

SELECT pg_catalog.pg_extension_config_dump('api_tokens.tokens', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.events', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.events_event_id_seq', '');


-- Inside: used by the functions below ----------------------------------------------------------

CREATE FUNCTION api_tokens.token_status(revoked_at timestamptz, in_grace boolean, enabled boolean,
    expires_at timestamptz, last_used_at timestamptz, max_idle interval, now timestamptz)
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'token_status_wrapper';
COMMENT ON FUNCTION api_tokens.token_status(timestamptz, boolean, boolean, timestamptz, timestamptz, interval, timestamptz)
IS 'What a check would say of such a token at this time: active, revoked, disabled, expired or idle_timeout';

CREATE FUNCTION api_tokens.live_last_use(token_id uuid, last_used_at timestamptz) RETURNS timestamptz
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'live_last_use_wrapper';
COMMENT ON FUNCTION api_tokens.live_last_use(uuid, timestamptz)
IS 'The later of the last use in the table and the one in shared memory';

CREATE FUNCTION api_tokens.checked_namespace(namespace text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'checked_namespace_wrapper';
COMMENT ON FUNCTION api_tokens.checked_namespace(text) IS 'The namespace, or an error if there can be none of that name';

CREATE FUNCTION api_tokens.checked_max_rows(max_rows integer) RETURNS bigint
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'checked_max_rows_wrapper';
COMMENT ON FUNCTION api_tokens.checked_max_rows(integer) IS 'A limit of rows, or an error if it is negative';

CREATE FUNCTION api_tokens.update_token(token_id uuid, changes jsonb) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'update_token_wrapper';
COMMENT ON FUNCTION api_tokens.update_token(uuid, jsonb) IS 'The changing half of api_token_update()';

-- The row that list, get and update return. The columns of quotas and rate limits are there so
-- that callers need not change when they come; they are NULL until then.
CREATE VIEW api_tokens.token_info AS
SELECT t.token_id, t.token_prefix, t.name, t.namespace, t.metadata, t.scopes, s.status,
    t.expires_at, t.max_idle, u.last_used_at, t.created_at,
    s.status OPERATOR(pg_catalog.=) 'revoked' AS revoked,
    t.revoked_at, t.replaced_by,
    t.allowed_ips, t.enabled,
    NULL::bigint AS max_uses, NULL::bigint AS refill_amount, NULL::interval AS refill_every,
    NULL::integer AS rate_limit, NULL::interval AS rate_window,
    t.max_expires_at
FROM api_tokens.tokens t, LATERAL (
    SELECT api_tokens.live_last_use(t.token_id, t.last_used_at) AS last_used_at OFFSET 0) u, LATERAL (
    SELECT api_tokens.token_status(t.revoked_at, t.in_grace, t.enabled, t.expires_at,
        u.last_used_at, t.max_idle, pg_catalog.clock_timestamp()) AS status OFFSET 0) s;
COMMENT ON VIEW api_tokens.token_info IS 'A token as api_token_list(), api_token_get() and api_token_update() show it';


-- Issue ----------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_token_create(namespace text, name text = NULL, metadata jsonb = NULL,
    scopes text[] = '{}', expires_at timestamptz = NULL, max_idle interval = NULL,
    prefix text = 'sk', allowed_ips cidr[] = NULL, enabled boolean = true, max_uses bigint = NULL,
    refill_amount bigint = NULL, refill_every interval = NULL, rate_limit integer = NULL,
    rate_window interval = NULL, max_expires_at timestamptz = NULL,
    OUT token text, OUT token_prefix text, OUT token_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_create_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_create(text, text, jsonb, text[], timestamptz, interval, text, cidr[], boolean, bigint, bigint, interval, integer, interval, timestamptz)
IS 'Makes a token and shows it, this once; only its SHA-256 is kept';

CREATE FUNCTION @extschema@.api_token_import(namespace text, token_hash bytea, token_prefix text,
    name text = NULL, metadata jsonb = NULL, scopes text[] = '{}', expires_at timestamptz = NULL,
    max_idle interval = NULL, created_at timestamptz = NULL, last_used_at timestamptz = NULL,
    revoked_at timestamptz = NULL)
RETURNS uuid LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_import_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_import(text, bytea, text, text, jsonb, text[], timestamptz, interval, timestamptz, timestamptz, timestamptz)
IS 'Takes over an existing token of any format by its SHA-256, so that it need not be reissued; returns its id';


-- Check ----------------------------------------------------------------------------------------

-- Not SECURITY DEFINER and without a search_path to set: they reach the table by a scan of their
-- own, no SQL is involved, and both would cost more than the check.
CREATE FUNCTION @extschema@.api_token_validate(token text, required_scopes text[] = NULL,
    client_ip inet = NULL, cost integer = 1,
    OUT ok boolean, OUT reason text, OUT token_id uuid, OUT namespace text, OUT name text,
    OUT metadata jsonb, OUT scopes text[], OUT expires_at timestamptz, OUT remaining bigint,
    OUT retry_after interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_validate_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_validate(text, text[], inet, integer)
IS 'May this token be used now, for this? One row, with the reason if not; never an error for a bad token';

CREATE FUNCTION @extschema@.api_token_validate_hash(token_hash bytea, required_scopes text[] = NULL,
    client_ip inet = NULL, cost integer = 1,
    OUT ok boolean, OUT reason text, OUT token_id uuid, OUT namespace text, OUT name text,
    OUT metadata jsonb, OUT scopes text[], OUT expires_at timestamptz, OUT remaining bigint,
    OUT retry_after interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_validate_hash_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_validate_hash(bytea, text[], inet, integer)
IS 'api_token_validate() for callers who hash the token themselves (SHA-256), so that it never reaches the server';

CREATE FUNCTION @extschema@.api_token_validate_many(tokens text[], required_scopes text[] = NULL,
    client_ip inet = NULL, cost integer = 1)
RETURNS TABLE (ok boolean, reason text, token_id uuid, namespace text, name text, metadata jsonb,
    scopes text[], expires_at timestamptz, remaining bigint, retry_after interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_validate_many_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_validate_many(text[], text[], inet, integer)
IS 'api_token_validate() for many tokens at once: one row for each, in their order';

CREATE FUNCTION @extschema@.api_token_touch(token text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_touch_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_touch(text)
IS 'Resets the idleness of a token; false unless it is alive now';

CREATE FUNCTION @extschema@.api_token_looks_valid(token text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'api_token_looks_valid_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_looks_valid(text)
IS 'Has the text the form of a token made here, checksum included? Says nothing about its validity';


-- Rotate and revoke ----------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_token_refresh(token text, grace interval = '0',
    expires_at timestamptz = NULL,
    OUT ok boolean, OUT reason text, OUT token text, OUT token_prefix text, OUT token_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_refresh_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_refresh(text, interval, timestamptz)
IS 'Replaces a live token by a new one with the same rights; the old one ends now, or after the grace period';

CREATE FUNCTION @extschema@.api_token_refresh_by_id(token_id uuid, grace interval = '0',
    expires_at timestamptz = NULL,
    OUT ok boolean, OUT reason text, OUT token text, OUT token_prefix text, OUT token_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_refresh_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_refresh_by_id(uuid, interval, timestamptz)
IS 'api_token_refresh() for who knows the id only';

CREATE FUNCTION @extschema@.api_token_invalidate(token text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_invalidate_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_invalidate(text)
IS 'Revokes a token for good; true if it is known, also when it was revoked before';

CREATE FUNCTION @extschema@.api_token_invalidate_by_id(token_id uuid) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_invalidate_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_invalidate_by_id(uuid)
IS 'api_token_invalidate() for who knows the id only';

CREATE FUNCTION @extschema@.api_token_invalidate_all(namespace text = NULL, before timestamptz = NULL,
    after timestamptz = NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_invalidate_all_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_invalidate_all(text, timestamptz, timestamptz)
IS 'Revokes all tokens of a namespace (of all, if NULL) created between the bounds, both exclusive; returns how many it revoked';


-- Look after -----------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_token_list(namespace text, include_revoked boolean = false,
    max_rows integer = NULL, after_id uuid = NULL)
RETURNS SETOF api_tokens.token_info
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT i.* FROM api_tokens.token_info i
    WHERE i.namespace OPERATOR(pg_catalog.=) api_tokens.checked_namespace($1)
        AND ($2 OR NOT i.revoked)
        AND ($4 IS NULL OR i.token_id OPERATOR(pg_catalog.<) $4)
    ORDER BY i.token_id DESC
    LIMIT api_tokens.checked_max_rows($3)
$$;
COMMENT ON FUNCTION @extschema@.api_token_list(text, boolean, integer, uuid)
IS 'The tokens of a namespace, newest first; for the next page give the last id as after_id';

CREATE FUNCTION @extschema@.api_token_get(token_id uuid) RETURNS SETOF api_tokens.token_info
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1
AS $$
    SELECT i.* FROM api_tokens.token_info i WHERE i.token_id OPERATOR(pg_catalog.=) $1
$$;
COMMENT ON FUNCTION @extschema@.api_token_get(uuid) IS 'One token; no row if there is none with this id';

CREATE FUNCTION @extschema@.api_token_update(token_id uuid, changes jsonb)
RETURNS SETOF api_tokens.token_info
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1
AS $$
    SELECT api_tokens.update_token($1, $2);
    SELECT i.* FROM api_tokens.token_info i WHERE i.token_id OPERATOR(pg_catalog.=) $1
$$;
COMMENT ON FUNCTION @extschema@.api_token_update(uuid, jsonb)
IS 'Changes what the keys of the object name (name, metadata, scopes, expires_at, max_idle, allowed_ips, enabled, max_expires_at); null clears';

CREATE FUNCTION @extschema@.api_token_set_enabled(token_id uuid, enabled boolean) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_set_enabled_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_set_enabled(uuid, boolean)
IS 'Switches a token off or on again; true if it is known';

CREATE FUNCTION @extschema@.api_token_cleanup(older_than interval = '30 days', max_rows bigint = NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_cleanup_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_cleanup(interval, bigint)
IS 'Deletes tokens that have been dead for longer than older_than, oldest first, and events past their retention; returns how many tokens';


-- Tell -----------------------------------------------------------------------------------------

-- Not SECURITY DEFINER: it must know who asks. It takes the owner's rights by itself.
CREATE FUNCTION @extschema@.api_token_events(after_cursor text = NULL, namespace text = NULL,
    max_rows integer = 1000)
RETURNS TABLE (cursor text, event_id bigint, at timestamptz, method text, namespace text,
    token_id uuid, count bigint, actor text, detail jsonb)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_events_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_events(text, text, integer)
IS 'Events after a cursor, none skipped and none twice; without manage rights only those that invalidate';

CREATE FUNCTION @extschema@.api_token_stats(OUT calls bigint, OUT accepted bigint, OUT refused jsonb,
    OUT touches_coalesced bigint, OUT touches_written bigint, OUT map_capacity bigint,
    OUT map_used bigint, OUT map_pending bigint, OUT map_evictions bigint, OUT map_full bigint,
    OUT flushes bigint, OUT rows_flushed bigint, OUT flush_failures bigint,
    OUT last_flush_at timestamptz, OUT last_error text)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_stats_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_stats()
IS 'Counters of the whole server since its start: checks, refusals by reason, the touch map and its flushes; needs preloading';


-- Rights ---------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_tokens_grant(role regrole, level text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_tokens_grant_wrapper';
COMMENT ON FUNCTION @extschema@.api_tokens_grant(regrole, text)
IS 'Gives a role the functions of a level: validate, manage or admin (all)';

CREATE FUNCTION @extschema@.api_tokens_revoke(role regrole, level text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_tokens_revoke_wrapper';
COMMENT ON FUNCTION @extschema@.api_tokens_revoke(regrole, text)
IS 'Takes the functions of a level from a role';

-- Everything but the pure api_token_looks_valid() is closed until it is granted.
REVOKE EXECUTE ON FUNCTION
    api_tokens.check_encoding(),
    api_tokens.token_status(timestamptz, boolean, boolean, timestamptz, timestamptz, interval, timestamptz),
    api_tokens.live_last_use(uuid, timestamptz),
    api_tokens.checked_namespace(text),
    api_tokens.checked_max_rows(integer),
    api_tokens.update_token(uuid, jsonb),
    @extschema@.api_token_create(text, text, jsonb, text[], timestamptz, interval, text, cidr[], boolean, bigint, bigint, interval, integer, interval, timestamptz),
    @extschema@.api_token_import(text, bytea, text, text, jsonb, text[], timestamptz, interval, timestamptz, timestamptz, timestamptz),
    @extschema@.api_token_validate(text, text[], inet, integer),
    @extschema@.api_token_validate_hash(bytea, text[], inet, integer),
    @extschema@.api_token_validate_many(text[], text[], inet, integer),
    @extschema@.api_token_touch(text),
    @extschema@.api_token_refresh(text, interval, timestamptz),
    @extschema@.api_token_refresh_by_id(uuid, interval, timestamptz),
    @extschema@.api_token_invalidate(text),
    @extschema@.api_token_invalidate_by_id(uuid),
    @extschema@.api_token_invalidate_all(text, timestamptz, timestamptz),
    @extschema@.api_token_list(text, boolean, integer, uuid),
    @extschema@.api_token_get(uuid),
    @extschema@.api_token_update(uuid, jsonb),
    @extschema@.api_token_set_enabled(uuid, boolean),
    @extschema@.api_token_cleanup(interval, bigint),
    @extschema@.api_token_events(text, text, integer),
    @extschema@.api_token_stats(),
    @extschema@.api_tokens_grant(regrole, text),
    @extschema@.api_tokens_revoke(regrole, text)
FROM PUBLIC;
