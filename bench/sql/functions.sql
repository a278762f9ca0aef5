-- Contestant (d): what one would write with PL/pgSQL and pgcrypto.
CREATE FUNCTION check_by_hand(raw text) RETURNS TABLE (token_id uuid, namespace text, name text,
    metadata jsonb, scopes text[], expires_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    found_token by_hand_updated;
BEGIN
    SELECT * INTO found_token FROM by_hand_updated t WHERE t.token_hash = digest(raw, 'sha256');
    IF NOT FOUND OR found_token.revoked_at IS NOT NULL OR NOT found_token.enabled
        OR found_token.expires_at <= clock_timestamp()
        OR clock_timestamp() - found_token.last_used_at > found_token.max_idle THEN
        RETURN;
    END IF;
    UPDATE by_hand_updated t SET last_used_at = clock_timestamp()
    WHERE t.token_hash = found_token.token_hash;
    RETURN QUERY SELECT found_token.token_id, found_token.namespace, found_token.name,
        found_token.metadata, found_token.scopes, found_token.expires_at;
END $$;
