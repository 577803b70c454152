-- Requests that the customer's own key for the provider paid for: the share of the list price that was charged, in parts
-- per million; -1 for all others.
ALTER TABLE usage_records ADD COLUMN byok_ppm BIGINT NOT NULL DEFAULT -1;
