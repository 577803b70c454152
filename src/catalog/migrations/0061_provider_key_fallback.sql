-- Which of the customer's and our keys is asked first, and whether ours may be asked at all. Keys from before this could
-- not fall back on ours, at its price: they keep that.
ALTER TABLE provider_keys ADD COLUMN is_fallback BIGINT NOT NULL DEFAULT 0;
ALTER TABLE provider_keys ADD COLUMN always_use BIGINT NOT NULL DEFAULT 0;
UPDATE provider_keys SET always_use = 1;
