-- api_tokens 1.0.0: the contract. Tables first, then the functions in the order of a token's life,
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
-- can be overwritten in place, which only a heap can take, whatever default_table_access_method says;
-- no index may hold these two. fillfactor leaves room for HOT updates.
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
    max_uses        bigint,
    refill_amount   bigint,
    refill_every    interval,
    rate_limit      integer,
    rate_window     interval,
    name            text,
    metadata        jsonb,
    CONSTRAINT tokens_pkey PRIMARY KEY (token_id),
    CONSTRAINT tokens_token_hash_key UNIQUE (token_hash),
    CONSTRAINT tokens_hash_is_sha256 CHECK (pg_catalog.octet_length(token_hash) = 32),
    CONSTRAINT tokens_grace_has_end CHECK (NOT in_grace OR revoked_at IS NOT NULL)
) USING heap WITH (fillfactor = 85);

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

-- What is left of quotas. Each use overwrites the row in place, without a lock and without waiting;
-- how is in src/logic/quota.rs. So no UPDATE may touch it. The columns, their order and the length of
-- the last one are known to src/store/quotas.rs.
CREATE TABLE api_tokens.quotas (
    family_id     uuid        NOT NULL,
    spent         bigint      NOT NULL,
    refilled_at   timestamptz NOT NULL,
    cluster       bigint      NOT NULL,
    slots         integer     NOT NULL,
    reservations  bytea       NOT NULL,
    CONSTRAINT quotas_pkey PRIMARY KEY (family_id),
    CONSTRAINT quotas_has_its_slots CHECK (slots OPERATOR(pg_catalog.=) 32
        AND pg_catalog.octet_length(reservations) OPERATOR(pg_catalog.=) 512)
) USING heap;
ALTER TABLE api_tokens.quotas ALTER reservations SET STORAGE PLAIN;
COMMENT ON TABLE api_tokens.quotas IS 'Uses of families of tokens that have max_uses; changed in place, never by UPDATE';
COMMENT ON COLUMN api_tokens.quotas.spent IS 'Uses, those of transactions under way included, less what was refilled';
COMMENT ON COLUMN api_tokens.quotas.cluster IS 'System identifier of the cluster that the reservations belong to';
COMMENT ON COLUMN api_tokens.quotas.reservations IS 'What is taken off spent if its transaction is rolled back: per slot its full id and the cost, 8 bytes each';

CREATE TABLE api_tokens.namespace_limits (
    namespace    text COLLATE "C" NOT NULL,
    rate_limit   integer  NOT NULL,
    rate_window  interval NOT NULL,
    CONSTRAINT namespace_limits_pkey PRIMARY KEY (namespace)
);
COMMENT ON TABLE api_tokens.namespace_limits IS 'Rate limits of all tokens of a namespace together';

CREATE TABLE api_tokens.metadata_schemas (
    namespace_pattern text COLLATE "C" NOT NULL,
    schema            jsonb NOT NULL,
    CONSTRAINT metadata_schemas_pkey PRIMARY KEY (namespace_pattern)
);
COMMENT ON TABLE api_tokens.metadata_schemas IS 'JSON Schemas that metadata must fit when it is written';
COMMENT ON COLUMN api_tokens.metadata_schemas.namespace_pattern IS 'A namespace, or the beginning of some followed by *';

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

-- The vault. Names compare byte by byte. One data key (DEK) per namespace seals; those that a
-- rotation has replaced only open, until nothing is sealed by them.
CREATE TABLE api_tokens.vault_deks (
    dek_id      uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    generation  integer     NOT NULL,
    is_active   boolean     NOT NULL,
    namespace   text COLLATE "C" NOT NULL,
    kek_id      bytea       NOT NULL,
    wrapped     bytea       NOT NULL,
    CONSTRAINT vault_deks_pkey PRIMARY KEY (dek_id),
    CONSTRAINT vault_deks_generation_key UNIQUE (namespace, generation),
    CONSTRAINT vault_deks_kek_id_is_16_bytes CHECK (pg_catalog.octet_length(kek_id) = 16)
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX vault_deks_active_idx ON api_tokens.vault_deks (namespace) WHERE is_active;
CREATE INDEX vault_deks_kek_idx ON api_tokens.vault_deks (kek_id);

CREATE TABLE api_tokens.vault_secrets (
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL,
    version      integer     NOT NULL,
    last_version integer     NOT NULL,
    namespace    text COLLATE "C" NOT NULL,
    key_name     text COLLATE "C" NOT NULL,
    expires_at   timestamptz,
    deleted_at   timestamptz,
    metadata     jsonb,
    CONSTRAINT vault_secrets_pkey PRIMARY KEY (namespace, key_name)
);

-- dek_id is no foreign key: a parallel restore fills the tables in any order. Data keys are
-- destroyed only after a look at the latest state says that nothing is sealed by them.
CREATE TABLE api_tokens.vault_versions (
    version      integer     NOT NULL,
    created_at   timestamptz NOT NULL,
    namespace    text COLLATE "C" NOT NULL,
    key_name     text COLLATE "C" NOT NULL,
    dek_id       uuid,
    sealed       bytea,
    client_value text,
    client_iv    text,
    CONSTRAINT vault_versions_pkey PRIMARY KEY (namespace, key_name, version),
    CONSTRAINT vault_versions_has_one_kind CHECK (
        (dek_id IS NULL) = (sealed IS NULL) AND (client_value IS NULL) = (client_iv IS NULL)
        AND (sealed IS NULL) <> (client_value IS NULL))
);
-- What is sealed does not compress.
ALTER TABLE api_tokens.vault_versions ALTER sealed SET STORAGE EXTERNAL;
CREATE INDEX vault_versions_dek_idx ON api_tokens.vault_versions (dek_id) WHERE dek_id IS NOT NULL;

COMMENT ON TABLE api_tokens.vault_deks IS 'Data keys of the vault, each sealed by a key-encryption key outside of the database';
COMMENT ON COLUMN api_tokens.vault_deks.kek_id IS 'Fingerprint of the key-encryption key';
COMMENT ON TABLE api_tokens.vault_secrets IS 'Names in the vault, and which version of each is current';
COMMENT ON COLUMN api_tokens.vault_secrets.last_version IS 'The highest number a version ever had: none is used twice';
COMMENT ON TABLE api_tokens.vault_versions IS 'Values in the vault: sealed by a data key, or encrypted by a client';

-- What a token's use_count was before its first use in an hour: one row per hour in which it was used,
-- written by the flush that sees its last use pass into another hour. So a row costs a token one
-- insertion per hour, and how often it is used costs nothing.
CREATE TABLE api_tokens.usage_hours (
    token_id     uuid        NOT NULL,
    hour         timestamptz NOT NULL,
    uses_before  bigint      NOT NULL,
    CONSTRAINT usage_hours_pkey PRIMARY KEY (token_id, hour)
);
-- Cleanup, oldest first. Not BRIN, which does not forget what a place held before it was used again.
CREATE INDEX usage_hours_hour_idx ON api_tokens.usage_hours (hour);
COMMENT ON TABLE api_tokens.usage_hours IS 'One row per token and hour in which it was used; needs preloading';
COMMENT ON COLUMN api_tokens.usage_hours.hour IS 'The beginning of the hour, in UTC';
COMMENT ON COLUMN api_tokens.usage_hours.uses_before IS 'use_count of the token before that hour; what it was used lies between this and that of its next row';

SELECT pg_catalog.pg_extension_config_dump('api_tokens.tokens', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.quotas', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.namespace_limits', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.metadata_schemas', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.events', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.events_event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.vault_deks', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.vault_secrets', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.vault_versions', '');
SELECT pg_catalog.pg_extension_config_dump('api_tokens.usage_hours', '');


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

CREATE FUNCTION api_tokens.checked_key_name(key_name text) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'checked_key_name_wrapper';
COMMENT ON FUNCTION api_tokens.checked_key_name(text) IS 'The name of a value, or an error if there can be none of that name';

CREATE FUNCTION api_tokens.checked_max_rows(max_rows integer) RETURNS bigint
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'checked_max_rows_wrapper';
COMMENT ON FUNCTION api_tokens.checked_max_rows(integer) IS 'A limit of rows, or an error if it is negative';

CREATE FUNCTION api_tokens.check_usage_of(token_id uuid, namespace text) RETURNS void
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'check_usage_of_wrapper';
COMMENT ON FUNCTION api_tokens.check_usage_of(uuid, text) IS 'An error unless one of the two is given, there can be a namespace of that name, and the library is preloaded';

CREATE FUNCTION api_tokens.update_token(token_id uuid, changes jsonb) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'update_token_wrapper';
COMMENT ON FUNCTION api_tokens.update_token(uuid, jsonb) IS 'The changing half of api_token_update()';

CREATE FUNCTION api_tokens.vault_key_problem() RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'vault_key_problem_wrapper';
COMMENT ON FUNCTION api_tokens.vault_key_problem() IS 'What is wrong with the key ring as it lies there now; NULL if nothing is';

-- The row that list, get and update return.
CREATE VIEW api_tokens.token_info AS
SELECT t.token_id, t.token_prefix, t.name, t.namespace, t.metadata, t.scopes, s.status,
    CASE WHEN pg_catalog.isfinite(t.expires_at) THEN t.expires_at END AS expires_at, t.max_idle, u.last_used_at, t.created_at,
    s.status OPERATOR(pg_catalog.=) 'revoked' AS revoked,
    t.revoked_at, t.replaced_by,
    t.allowed_ips, t.enabled,
    t.max_uses, t.refill_amount, t.refill_every, t.rate_limit, t.rate_window,
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
    revoked_at timestamptz = NULL, allowed_ips cidr[] = NULL, enabled boolean = true,
    max_uses bigint = NULL, refill_amount bigint = NULL, refill_every interval = NULL,
    rate_limit integer = NULL, rate_window interval = NULL, max_expires_at timestamptz = NULL)
RETURNS uuid LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_import_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_import(text, bytea, text, text, jsonb, text[], timestamptz, interval, timestamptz, timestamptz, timestamptz, cidr[], boolean, bigint, bigint, interval, integer, interval, timestamptz)
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

CREATE FUNCTION @extschema@.api_token_scope_covers(held text[], needed text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'api_token_scope_covers_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_scope_covers(text[], text)
IS 'Does a token with these scopes have that one? By itself, or by a wildcard above it';


-- Identity: who this transaction acts as -------------------------------------------------------

-- Kept in the session's memory, where no SQL reaches it. It ends with the transaction and follows
-- savepoints. Other processes have none of it: what reads it is PARALLEL RESTRICTED.
CREATE FUNCTION @extschema@.api_token_authenticate(token text, required_scopes text[] = NULL,
    client_ip inet = NULL, cost integer = 1,
    OUT ok boolean, OUT reason text, OUT token_id uuid, OUT namespace text, OUT name text,
    OUT metadata jsonb, OUT scopes text[], OUT expires_at timestamptz, OUT remaining bigint,
    OUT retry_after interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_authenticate_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_authenticate(text, text[], inet, integer)
IS 'api_token_validate(), and the rest of the transaction acts as this token; as nobody, if it is refused';

CREATE FUNCTION @extschema@.api_token_require(token text, required_scopes text[] = NULL,
    client_ip inet = NULL, cost integer = 1,
    OUT ok boolean, OUT reason text, OUT token_id uuid, OUT namespace text, OUT name text,
    OUT metadata jsonb, OUT scopes text[], OUT expires_at timestamptz, OUT remaining bigint,
    OUT retry_after interval)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_require_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_require(text, text[], inet, integer)
IS 'api_token_authenticate(), but a token that is refused is an error: 28000, Unauthorized: and the reason';

CREATE FUNCTION @extschema@.api_token_require_current(required_scopes text[] = NULL)
RETURNS uuid LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_require_current_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_require_current(text[])
IS 'The id of the token that the transaction acts as; error 28000 if there is none, or it is no longer valid, or lacks one of these scopes';

CREATE FUNCTION @extschema@.api_token_deauthenticate()
RETURNS void LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_deauthenticate_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_deauthenticate()
IS 'The rest of the transaction acts as nobody';

CREATE FUNCTION @extschema@.api_token_current_id()
RETURNS uuid LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_current_id_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_current_id()
IS 'Id of the token that the transaction acts as; NULL if there is none';

CREATE FUNCTION @extschema@.api_token_current_namespace()
RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_current_namespace_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_current_namespace()
IS 'Namespace of the token that the transaction acts as; NULL if there is none';

CREATE FUNCTION @extschema@.api_token_current_name()
RETURNS text LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_current_name_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_current_name()
IS 'Name of the token that the transaction acts as; NULL if there is none';

CREATE FUNCTION @extschema@.api_token_current_metadata()
RETURNS jsonb LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_current_metadata_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_current_metadata()
IS 'Metadata of the token that the transaction acts as; NULL if there is none';

CREATE FUNCTION @extschema@.api_token_current_scopes()
RETURNS text[] LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_current_scopes_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_current_scopes()
IS 'Scopes of the token that the transaction acts as; NULL if there is none';

CREATE FUNCTION @extschema@.api_token_has_scope(scope text)
RETURNS boolean LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'api_token_has_scope_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_has_scope(text)
IS 'Does the token that the transaction acts as hold this scope? False if there is none';

CREATE FUNCTION @extschema@.api_token_from_header(header text)
RETURNS text LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'api_token_from_header_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_from_header(text)
IS 'The token of an HTTP header Authorization: Bearer; NULL if it holds anything else';

CREATE FUNCTION api_tokens.presented_token(headers text)
RETURNS text LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'presented_token_wrapper';
COMMENT ON FUNCTION api_tokens.presented_token(text)
IS 'The token among the headers of an HTTP request, a JSON object: X-API-Key, or else Authorization: Bearer';

-- PostgREST takes SQLSTATE PGRST for an answer: the body in the message, status and headers in the
-- detail. RFC 6750, 3.1: a request without a token is not told of an error. RFC 6585: 429 is of limits.
-- All arguments are typed, so that no function of the same name fits better.
CREATE FUNCTION @extschema@.api_token_pre_request() RETURNS void
LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token text := api_tokens.presented_token(pg_catalog.current_setting('request.headers', true));
    answer record := @extschema@.api_token_authenticate(token, NULL::text[], NULL::inet, 1);
    status integer := CASE WHEN answer.reason IN ('usage_exceeded', 'rate_limited') THEN 429
        WHEN answer.reason OPERATOR(pg_catalog.=) 'read_only' THEN 503 ELSE 401 END;
    headers json := CASE
        WHEN status OPERATOR(pg_catalog.=) 401 THEN pg_catalog.json_build_object('WWW-Authenticate',
            CASE WHEN token IS NULL THEN 'Bearer' ELSE 'Bearer error="invalid_token"' END)
        WHEN answer.retry_after IS NOT NULL THEN pg_catalog.json_build_object('Retry-After',
            pg_catalog.ceil(EXTRACT(epoch FROM answer.retry_after))::text)
        ELSE '{}' END;
BEGIN
    IF NOT answer.ok THEN
        RAISE SQLSTATE 'PGRST' USING
            MESSAGE = pg_catalog.json_build_object('code', '28000',
                'message', pg_catalog.concat('Unauthorized: ', answer.reason), 'details', NULL, 'hint', NULL),
            DETAIL = pg_catalog.json_build_object('status', status, 'headers', headers);
    END IF;
END $$;
COMMENT ON FUNCTION @extschema@.api_token_pre_request()
IS 'For PostgREST''s db-pre-request: the request acts as the token in its headers, or is answered 401 (429 over a limit)';

CREATE FUNCTION @extschema@.api_token_invalidate_owner()
RETURNS trigger LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_invalidate_owner_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_invalidate_owner()
IS 'Row trigger: revokes all tokens of the namespace that the column named by its argument held, when the row is deleted or the column changes';


-- Rotate and revoke ----------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_token_refresh(token text, grace interval = '0',
    expires_at timestamptz = NULL, scopes text[] = NULL,
    OUT ok boolean, OUT reason text, OUT token text, OUT token_prefix text, OUT token_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_refresh_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_refresh(text, interval, timestamptz, text[])
IS 'Replaces a live token by a new one with the same rights; the old one ends now, or after the grace period';

CREATE FUNCTION @extschema@.api_token_refresh_by_id(token_id uuid, grace interval = '0',
    expires_at timestamptz = NULL, scopes text[] = NULL,
    OUT ok boolean, OUT reason text, OUT token text, OUT token_prefix text, OUT token_id uuid)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_refresh_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_refresh_by_id(uuid, interval, timestamptz, text[])
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
IS 'Changes what the keys of the object name (name, metadata, scopes, expires_at, max_idle, allowed_ips, enabled, max_expires_at, max_uses, refill_amount, refill_every, rate_limit, rate_window); null clears';

CREATE FUNCTION @extschema@.api_token_set_enabled(token_id uuid, enabled boolean) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_set_enabled_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_set_enabled(uuid, boolean)
IS 'Switches a token off or on again; true if it is known';

CREATE FUNCTION @extschema@.api_token_set_namespace_limit(namespace text, rate_limit integer,
    rate_window interval) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_set_namespace_limit_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_set_namespace_limit(text, integer, interval)
IS 'Limits the calls of all tokens of a namespace together, beside their own limits; NULLs take the limit away; needs preloading';

CREATE FUNCTION @extschema@.api_token_set_metadata_schema(namespace_pattern text, schema jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_set_metadata_schema_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_set_metadata_schema(text, jsonb)
IS 'From now on the metadata of a namespace, or of all that begin alike (acme*), must fit this JSON Schema; NULL takes it away';

CREATE FUNCTION @extschema@.api_token_cleanup(older_than interval = '30 days', max_rows bigint = NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_token_cleanup_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_cleanup(interval, bigint)
IS 'Deletes tokens that have been dead for longer than older_than, oldest first, events past their retention, and hours of use older than 30 days, of each at most max_rows; returns how many tokens';


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

CREATE FUNCTION @extschema@.api_token_events_end() RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_events_end_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_events_end()
IS 'The cursor behind the last event so far: for a cache that begins empty and wants only what comes';

CREATE FUNCTION @extschema@.api_token_stats(OUT calls bigint, OUT accepted bigint, OUT refused jsonb,
    OUT touches_coalesced bigint, OUT touches_written bigint, OUT map_capacity bigint,
    OUT map_used bigint, OUT map_pending bigint, OUT map_evictions bigint, OUT map_full bigint,
    OUT flushes bigint, OUT rows_flushed bigint, OUT flush_failures bigint,
    OUT last_flush_at timestamptz, OUT last_error text, OUT rate_map_capacity bigint,
    OUT rate_map_used bigint)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_token_stats_wrapper';
COMMENT ON FUNCTION @extschema@.api_token_stats()
IS 'Counters of the whole server since its start: checks, refusals by reason, the touch map and its flushes, the rate limits in use; needs preloading';

-- By token the last row's uses end with the count in the table. 720 hours: 30 days may be an hour
-- more or less where the clocks change.
CREATE FUNCTION @extschema@.api_token_usage(token_id uuid = NULL, namespace text = NULL)
RETURNS TABLE (hour timestamptz, uses bigint)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT api_tokens.check_usage_of($1, $2);
    SELECT h.hour, pg_catalog.sum(h.uses)::bigint
    FROM (
        SELECT u.hour, COALESCE(pg_catalog.lead(u.uses_before) OVER (PARTITION BY u.token_id ORDER BY u.hour),
            t.use_count) OPERATOR(pg_catalog.-) u.uses_before AS uses
        -- Token by token, by index: the plan does not know which of the two is given.
        FROM (SELECT token_id, use_count FROM api_tokens.tokens WHERE token_id OPERATOR(pg_catalog.=) $1
            UNION ALL SELECT token_id, use_count FROM api_tokens.tokens
            WHERE namespace OPERATOR(pg_catalog.=) $2) t, LATERAL (
            SELECT * FROM api_tokens.usage_hours
            WHERE usage_hours.token_id OPERATOR(pg_catalog.=) t.token_id AND usage_hours.hour OPERATOR(pg_catalog.>)
                (pg_catalog.now() OPERATOR(pg_catalog.-) interval '720 hours') OFFSET 0) u) h
    GROUP BY h.hour HAVING pg_catalog.sum(h.uses) OPERATOR(pg_catalog.>) 0
    ORDER BY h.hour
$$;
COMMENT ON FUNCTION @extschema@.api_token_usage(uuid, text)
IS 'Uses per hour of the last 30 days, of one token or of all tokens of one namespace: the hours (UTC) that have any, oldest first, as of the last flush; needs preloading';


-- Vault ----------------------------------------------------------------------------------------

-- Plans are kept for a session. One made while the tables were small must not read them whole
-- when they are not: hence enable_seqscan = off where every look is one by an index.

CREATE FUNCTION @extschema@.api_vault_store(namespace text, key_name text, value text, expected_version integer = NULL,
    metadata jsonb = NULL, expires_at timestamptz = NULL)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_store_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_store(text, text, text, integer, jsonb, timestamptz)
IS 'Seals a value as the new current version and returns its number; with expected_version only if that is still current (0: none yet)';

-- Not SECURITY DEFINER: reading goes by scans, no SQL is involved.

CREATE FUNCTION @extschema@.api_vault_get(namespace text, key_name text, version integer = NULL)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_vault_get_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_get(text, text, integer)
IS 'The value in the clear; NULL if there is none, or it is deleted or expired';

CREATE FUNCTION @extschema@.api_vault_list(namespace text, include_deleted boolean = false)
RETURNS TABLE (key_name text, version integer, created_at timestamptz, updated_at timestamptz,
    expires_at timestamptz, metadata jsonb, client_encrypted boolean, deleted_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.key_name, s.version, s.created_at, s.updated_at, s.expires_at, s.metadata,
        v.client_value IS NOT NULL, s.deleted_at
    FROM api_tokens.vault_secrets s LEFT JOIN api_tokens.vault_versions v
        ON v.namespace OPERATOR(pg_catalog.=) s.namespace
        AND v.key_name OPERATOR(pg_catalog.=) s.key_name
        AND v.version OPERATOR(pg_catalog.=) s.version
    WHERE s.namespace OPERATOR(pg_catalog.=) api_tokens.checked_namespace($1)
        AND ($2 OR s.deleted_at IS NULL)
    ORDER BY s.key_name
$$;
COMMENT ON FUNCTION @extschema@.api_vault_list(text, boolean)
IS 'The names of a namespace and what is known of each; never a value';

CREATE FUNCTION @extschema@.api_vault_versions(namespace text, key_name text)
RETURNS TABLE (version integer, created_at timestamptz, is_current boolean, client_encrypted boolean)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.version, v.created_at, v.version OPERATOR(pg_catalog.=) s.version,
        v.client_value IS NOT NULL
    FROM api_tokens.vault_versions v JOIN api_tokens.vault_secrets s
        ON s.namespace OPERATOR(pg_catalog.=) v.namespace
        AND s.key_name OPERATOR(pg_catalog.=) v.key_name
    WHERE v.namespace OPERATOR(pg_catalog.=) api_tokens.checked_namespace($1)
        AND v.key_name OPERATOR(pg_catalog.=) api_tokens.checked_key_name($2)
    ORDER BY v.version DESC
$$;
COMMENT ON FUNCTION @extschema@.api_vault_versions(text, text)
IS 'The versions there are of a value, newest first';

CREATE FUNCTION @extschema@.api_vault_rollback(namespace text, key_name text, version integer)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_rollback_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_rollback(text, text, integer)
IS 'Makes the value of an earlier version current again, as a new version, and returns its number';

CREATE FUNCTION @extschema@.api_vault_delete(namespace text, key_name text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_vault_delete_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_delete(text, text)
IS 'Hides a value; api_vault_undelete() shows it again. True if it was there';

CREATE FUNCTION @extschema@.api_vault_undelete(namespace text, key_name text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_vault_undelete_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_undelete(text, text)
IS 'Shows a deleted value again; true if there was one';

CREATE FUNCTION @extschema@.api_vault_destroy(namespace text, key_name text, version integer = NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_vault_destroy_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_destroy(text, text, integer)
IS 'Deletes a version, or all, for good; returns how many';

CREATE FUNCTION @extschema@.api_vault_shred(namespace text, confirm text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_shred_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_shred(text, text)
IS 'Destroys the data keys of a namespace and all its values for good; confirm is the namespace again. Returns how many values';

CREATE FUNCTION @extschema@.api_vault_store_encrypted(namespace text, key_name text, encrypted_value text,
    iv text)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_store_encrypted_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_store_encrypted(text, text, text, text)
IS 'Keeps a value that a client encrypted, as it is; both texts are base64';

CREATE FUNCTION @extschema@.api_vault_get_encrypted(namespace text, key_name text, OUT encrypted_value text, OUT iv text,
    OUT created_at timestamptz, OUT updated_at timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'api_vault_get_encrypted_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_get_encrypted(text, text)
IS 'A value that a client encrypted, as it came; NULLs if there is none';

CREATE FUNCTION @extschema@.api_vault_encrypt_value(plaintext text, secret text, OUT encrypted_value text,
    OUT iv text)
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'api_vault_encrypt_value_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_encrypt_value(text, text)
IS 'Encrypts as convex-api-tokens does in the client: AES-256-GCM under PBKDF2 of the secret';

CREATE FUNCTION @extschema@.api_vault_decrypt_value(encrypted_value text, iv text, secret text)
RETURNS text LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'api_vault_decrypt_value_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_decrypt_value(text, text, text)
IS 'Decrypts what api_vault_encrypt_value() or convex-api-tokens encrypted';

CREATE FUNCTION @extschema@.api_vault_rekey_step(batch integer = 500, wait boolean = false)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_rekey_step_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_rekey_step(integer, boolean)
IS 'Wraps some data keys by the primary key and returns how many, NULL when nothing is left; what others hold is left out, or waited for';

CREATE FUNCTION @extschema@.api_vault_rotate_dek_begin(namespace text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_rotate_dek_begin_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_rotate_dek_begin(text)
IS 'Gives a namespace a new data key; false if a rotation is to be finished first, or there is no key yet';

CREATE FUNCTION @extschema@.api_vault_rotate_dek_step(namespace text, batch integer = 500,
    wait boolean = false)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_rotate_dek_step_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_rotate_dek_step(text, integer, boolean)
IS 'Seals some values by the new data key and returns how many; NULL when nothing is left';

-- The procedures commit after each batch, which a SECURITY DEFINER procedure, or one with a
-- search_path of its own, could not do: so every name in them is qualified.
CREATE PROCEDURE @extschema@.api_vault_rekey(batch integer = 500) LANGUAGE plpgsql AS $$
DECLARE
    step bigint;
    total bigint := 0;
    wait boolean := false;
BEGIN
    LOOP
        step := @extschema@.api_vault_rekey_step(batch, wait);
        COMMIT;
        EXIT WHEN step IS NULL;
        total := total OPERATOR(pg_catalog.+) step;
        IF step OPERATOR(pg_catalog.>) 0 THEN
            RAISE NOTICE 'data keys wrapped by the primary key: %', total;
        END IF;
        wait := step OPERATOR(pg_catalog.=) 0;
    END LOOP;
END $$;
COMMENT ON PROCEDURE @extschema@.api_vault_rekey(integer)
IS 'Wraps all data keys by the primary key of the ring, a batch per transaction; can be interrupted and called again';

CREATE PROCEDURE @extschema@.api_vault_rotate_dek(namespace text, batch integer = 500) LANGUAGE plpgsql AS $$
DECLARE
    step bigint;
    total bigint := 0;
    wait boolean;
    is_new boolean;
BEGIN
    -- An earlier rotation that was interrupted is finished first.
    FOR attempt IN 1 .. 2 LOOP
        is_new := @extschema@.api_vault_rotate_dek_begin(namespace);
        COMMIT;
        wait := false;
        LOOP
            step := @extschema@.api_vault_rotate_dek_step(namespace, batch, wait);
            COMMIT;
            EXIT WHEN step IS NULL;
            total := total OPERATOR(pg_catalog.+) step;
            IF step OPERATOR(pg_catalog.>) 0 THEN
                RAISE NOTICE 'values sealed by the new data key: %', total;
            END IF;
            wait := step OPERATOR(pg_catalog.=) 0;
        END LOOP;
        EXIT WHEN is_new;
    END LOOP;
    IF NOT is_new THEN
        RAISE NOTICE 'the namespace has no data key yet';
    END IF;
END $$;
COMMENT ON PROCEDURE @extschema@.api_vault_rotate_dek(text, integer)
IS 'Gives a namespace a new data key and seals all its values by it, a batch per transaction; can be interrupted and called again';

CREATE FUNCTION @extschema@.api_vault_key_status()
RETURNS TABLE (key_id text, label text, role text, deks bigint, retired_deks bigint,
    values_to_move bigint)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_vault_key_status_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_key_status()
IS 'The key-encryption keys that are loaded or in use, and what each has wrapped; role is primary, open only or missing';

CREATE FUNCTION @extschema@.api_vault_verify() RETURNS TABLE (object text, result text, count bigint)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'api_vault_verify_wrapper';
COMMENT ON FUNCTION @extschema@.api_vault_verify()
IS 'Opens every data key and every value and counts them by result: ok, key missing, wrong context, damaged';

CREATE FUNCTION @extschema@.api_tokens_doctor() RETURNS TABLE (check_name text, status text, finding text, remedy text)
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.check_name, CASE WHEN c.is_good THEN 'ok' ELSE 'warning' END,
        c.finding, CASE WHEN NOT c.is_good THEN c.remedy END
    FROM (
        SELECT 'log_statement' AS check_name, pg_catalog.current_setting('log_statement') AS setting
        UNION ALL SELECT 'log_min_duration_statement', pg_catalog.current_setting('log_min_duration_statement')
        UNION ALL SELECT 'log_min_duration_sample', pg_catalog.current_setting('log_min_duration_sample')
        UNION ALL SELECT 'log_transaction_sample_rate', pg_catalog.current_setting('log_transaction_sample_rate')
        UNION ALL SELECT 'log_min_error_statement', pg_catalog.current_setting('log_min_error_statement')
        UNION ALL SELECT 'debug_print', pg_catalog.concat_ws(' ', pg_catalog.current_setting('debug_print_parse'),
            pg_catalog.current_setting('debug_print_rewritten'), pg_catalog.current_setting('debug_print_plan'))
        UNION ALL SELECT 'settings of roles and databases', COALESCE((
            SELECT pg_catalog.string_agg(DISTINCT pg_catalog.split_part(one, '=', 1), ' ')
            FROM pg_catalog.pg_db_role_setting d, pg_catalog.unnest(d.setconfig) one
            WHERE one OPERATOR(pg_catalog.~) '^(log_|auto_explain|debug_print)'), 'none about logging')
        UNION ALL SELECT 'log_parameter_max_length', pg_catalog.current_setting('log_parameter_max_length')
        UNION ALL SELECT 'log_parameter_max_length_on_error', pg_catalog.current_setting('log_parameter_max_length_on_error')
        UNION ALL SELECT 'auto_explain.log_min_duration', COALESCE(pg_catalog.current_setting('auto_explain.log_min_duration', true), '-1')
        UNION ALL SELECT 'shared_preload_libraries', pg_catalog.current_setting('shared_preload_libraries')
        UNION ALL SELECT 'data_checksums', pg_catalog.current_setting('data_checksums')
        UNION ALL SELECT 'creators in the schema', COALESCE((
            SELECT pg_catalog.string_agg(CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.pg_get_userbyid(a.grantee) END, ' ')
            FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace,
                pg_catalog.aclexplode(n.nspacl) a
            WHERE e.extname OPERATOR(pg_catalog.=) 'api_tokens' AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
                AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner), 'only its owner')
        UNION ALL SELECT 'vault keys', COALESCE(api_tokens.vault_key_problem(), 'loaded')
        UNION ALL SELECT 'cleanup', CASE WHEN EXISTS (SELECT FROM api_tokens.tokens t
            WHERE LEAST(t.revoked_at, t.expires_at) OPERATOR(pg_catalog.<)
                (pg_catalog.now() OPERATOR(pg_catalog.-) interval '45 days'))
            THEN 'there are tokens that have been dead for more than 45 days' ELSE 'nothing is overdue' END
    ) s, LATERAL (
        SELECT s.check_name, s.setting AS finding,
            CASE s.check_name
                WHEN 'log_statement' THEN s.setting OPERATOR(pg_catalog.=) ANY ('{none,ddl}')
                WHEN 'log_min_duration_statement' THEN s.setting OPERATOR(pg_catalog.=) '-1'
                WHEN 'log_min_duration_sample' THEN s.setting OPERATOR(pg_catalog.=) '-1'
                WHEN 'log_transaction_sample_rate' THEN s.setting OPERATOR(pg_catalog.=) '0'
                WHEN 'log_min_error_statement' THEN s.setting OPERATOR(pg_catalog.=) 'panic'
                WHEN 'debug_print' THEN s.setting OPERATOR(pg_catalog.=) 'off off off'
                WHEN 'settings of roles and databases' THEN s.setting OPERATOR(pg_catalog.=) 'none about logging'
                WHEN 'log_parameter_max_length' THEN s.setting OPERATOR(pg_catalog.=) '0'
                WHEN 'log_parameter_max_length_on_error' THEN s.setting OPERATOR(pg_catalog.=) '0'
                WHEN 'auto_explain.log_min_duration' THEN s.setting OPERATOR(pg_catalog.=) '-1'
                WHEN 'shared_preload_libraries' THEN s.setting OPERATOR(pg_catalog.~) '\mapi_tokens\M'
                WHEN 'data_checksums' THEN s.setting OPERATOR(pg_catalog.=) 'on'
                WHEN 'creators in the schema' THEN s.setting OPERATOR(pg_catalog.=) 'only its owner'
                WHEN 'vault keys' THEN s.setting OPERATOR(pg_catalog.=) 'loaded'
                WHEN 'cleanup' THEN s.setting OPERATOR(pg_catalog.=) 'nothing is overdue'
            END AS is_good,
            CASE s.check_name
                WHEN 'log_statement' THEN 'Statements with a token or a value written into them are logged whole: set it to ddl or none, and pass secrets as bind parameters'
                WHEN 'log_min_duration_statement' THEN 'Slow statements are logged whole: set it to -1, or pass secrets as bind parameters only'
                WHEN 'log_min_duration_sample' THEN 'Some statements are logged whole: set it to -1'
                WHEN 'log_transaction_sample_rate' THEN 'Some transactions are logged whole: set it to 0'
                WHEN 'log_min_error_statement' THEN 'A statement that fails is logged whole: pass secrets as bind parameters only, or set it to panic'
                WHEN 'debug_print' THEN 'Statements are logged as trees, constants included: set debug_print_parse, _rewritten and _plan to off'
                WHEN 'settings of roles and databases' THEN 'Some roles or databases log otherwise than this session: look at them in pg_db_role_setting'
                WHEN 'log_parameter_max_length' THEN 'Bind parameters are logged with statements: set it to 0'
                WHEN 'log_parameter_max_length_on_error' THEN 'Bind parameters are logged with errors: set it to 0'
                WHEN 'auto_explain.log_min_duration' THEN 'auto_explain logs statements and plans whole: set it to -1'
                WHEN 'shared_preload_libraries' THEN 'Each check may write to the table at most once a minute per token, and uses are not counted: add api_tokens and restart'
                WHEN 'data_checksums' THEN 'Damage to the files goes unnoticed: pg_checksums --enable, with the server stopped'
                WHEN 'creators in the schema' THEN 'Whoever may create functions in the schema of this extension can put one beside ours that a call fits better: REVOKE CREATE, or install into a schema of its own'
                WHEN 'vault keys' THEN 'Nothing can be stored in the vault or read from it: see api_tokens.vault_key_file'
                WHEN 'cleanup' THEN 'Schedule SELECT api_token_cleanup(), with pg_cron or from outside'
            END AS remedy) c
$$;
COMMENT ON FUNCTION @extschema@.api_tokens_doctor()
IS 'What on this server can leak a secret or is set up badly, one row each, with a remedy';


-- Rights ---------------------------------------------------------------------------------------

CREATE FUNCTION @extschema@.api_tokens_grant(role regrole, level text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_tokens_grant_wrapper';
COMMENT ON FUNCTION @extschema@.api_tokens_grant(regrole, text)
IS 'Gives a role the functions of a level: validate, manage, vault or admin (all)';

CREATE FUNCTION @extschema@.api_tokens_revoke(role regrole, level text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'api_tokens_revoke_wrapper';
COMMENT ON FUNCTION @extschema@.api_tokens_revoke(regrole, text)
IS 'Takes the functions of a level from a role';

-- Closed until it is granted is everything but the pure functions and what tells a transaction of
-- its own identity.
REVOKE EXECUTE ON ROUTINE
    api_tokens.check_encoding(),
    api_tokens.vault_key_problem(),
    api_tokens.token_status(timestamptz, boolean, boolean, timestamptz, timestamptz, interval, timestamptz),
    api_tokens.live_last_use(uuid, timestamptz),
    api_tokens.checked_namespace(text),
    api_tokens.checked_key_name(text),
    api_tokens.checked_max_rows(integer),
    api_tokens.check_usage_of(uuid, text),
    api_tokens.update_token(uuid, jsonb),
    api_tokens.presented_token(text),
    @extschema@.api_token_create(text, text, jsonb, text[], timestamptz, interval, text, cidr[], boolean, bigint, bigint, interval, integer, interval, timestamptz),
    @extschema@.api_token_import(text, bytea, text, text, jsonb, text[], timestamptz, interval, timestamptz, timestamptz, timestamptz, cidr[], boolean, bigint, bigint, interval, integer, interval, timestamptz),
    @extschema@.api_token_validate(text, text[], inet, integer),
    @extschema@.api_token_validate_hash(bytea, text[], inet, integer),
    @extschema@.api_token_validate_many(text[], text[], inet, integer),
    @extschema@.api_token_touch(text),
    @extschema@.api_token_authenticate(text, text[], inet, integer),
    @extschema@.api_token_require(text, text[], inet, integer),
    @extschema@.api_token_deauthenticate(),
    @extschema@.api_token_pre_request(),
    @extschema@.api_token_invalidate_owner(),
    @extschema@.api_token_refresh(text, interval, timestamptz, text[]),
    @extschema@.api_token_refresh_by_id(uuid, interval, timestamptz, text[]),
    @extschema@.api_token_invalidate(text),
    @extschema@.api_token_invalidate_by_id(uuid),
    @extschema@.api_token_invalidate_all(text, timestamptz, timestamptz),
    @extschema@.api_token_list(text, boolean, integer, uuid),
    @extschema@.api_token_get(uuid),
    @extschema@.api_token_update(uuid, jsonb),
    @extschema@.api_token_set_enabled(uuid, boolean),
    @extschema@.api_token_set_namespace_limit(text, integer, interval),
    @extschema@.api_token_set_metadata_schema(text, jsonb),
    @extschema@.api_token_cleanup(interval, bigint),
    @extschema@.api_token_events(text, text, integer),
    @extschema@.api_token_events_end(),
    @extschema@.api_token_stats(),
    @extschema@.api_token_usage(uuid, text),
    @extschema@.api_vault_store(text, text, text, integer, jsonb, timestamptz),
    @extschema@.api_vault_get(text, text, integer),
    @extschema@.api_vault_list(text, boolean),
    @extschema@.api_vault_versions(text, text),
    @extschema@.api_vault_rollback(text, text, integer),
    @extschema@.api_vault_delete(text, text),
    @extschema@.api_vault_undelete(text, text),
    @extschema@.api_vault_destroy(text, text, integer),
    @extschema@.api_vault_shred(text, text),
    @extschema@.api_vault_store_encrypted(text, text, text, text),
    @extschema@.api_vault_get_encrypted(text, text),
    @extschema@.api_vault_encrypt_value(text, text),
    @extschema@.api_vault_decrypt_value(text, text, text),
    @extschema@.api_vault_rekey_step(integer, boolean),
    @extschema@.api_vault_rotate_dek_begin(text),
    @extschema@.api_vault_rotate_dek_step(text, integer, boolean),
    @extschema@.api_vault_rekey(integer),
    @extschema@.api_vault_rotate_dek(text, integer),
    @extschema@.api_vault_key_status(),
    @extschema@.api_vault_verify(),
    @extschema@.api_tokens_doctor(),
    @extschema@.api_tokens_grant(regrole, text),
    @extschema@.api_tokens_revoke(regrole, text)
FROM PUBLIC;

-- Default privileges of whoever installs may have handed out more, to roles of their own. Nobody has a
-- right here before it is granted.
DO $$
DECLARE
    closing text;
BEGIN
    FOR closing IN
        SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s FROM %s', o.what,
            CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
        FROM (
            SELECT 'SCHEMA api_tokens' AS what, n.nspacl AS rights, n.nspowner AS owner, true AS is_closed
            FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'api_tokens'
            UNION ALL
            SELECT pg_catalog.concat(CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END, c.oid::pg_catalog.regclass),
                c.relacl, c.relowner, true
            FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) 'api_tokens'::pg_catalog.regnamespace
                AND c.relkind IN ('r', 'v', 'S')
            UNION ALL
            SELECT pg_catalog.concat('ROUTINE ', p.oid::pg_catalog.regprocedure), p.proacl, p.proowner, false
            FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) p.oid
                AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.deptype OPERATOR(pg_catalog.=) 'e'
            JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid AND e.extname OPERATOR(pg_catalog.=) 'api_tokens'
        ) o, LATERAL pg_catalog.aclexplode(o.rights) a
        WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner AND (o.is_closed OR a.grantee OPERATOR(pg_catalog.<>) 0)
    LOOP
        EXECUTE closing;
    END LOOP;
END $$;
