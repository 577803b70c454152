-- Requests of such a key take answers from the gateway's cache unless they refuse it.
ALTER TABLE api_keys ADD COLUMN uses_cache BIGINT NOT NULL DEFAULT 0 CHECK (uses_cache = 0 OR uses_cache = 1);
