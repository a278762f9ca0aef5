-- From 0.1.0 to 1.0.0: what 1.0.0 declares anew or otherwise, and nothing else. tests/upgrade.rs compares
-- the outcome with a fresh install.

\echo Use "ALTER EXTENSION api_tokens UPDATE" to load this file. \quit

-- It looks at the server too.
ALTER FUNCTION api_tokens.check_usage_of(uuid, text) STABLE;
COMMENT ON FUNCTION api_tokens.check_usage_of(uuid, text) IS 'An error unless one of the two is given, there can be a namespace of that name, and the library is preloaded';
