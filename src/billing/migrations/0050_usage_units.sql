-- What is priced apart from plain and cached tokens: prompt tokens written to a provider's cache, reasoning tokens, and
-- units (images, seconds, characters, documents). Zero for most records; the prices are zero where there is none of it.
ALTER TABLE usage_records ADD COLUMN cache_write_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN reasoning_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN units BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN unit TEXT NOT NULL DEFAULT '';
ALTER TABLE usage_records ADD COLUMN price_cache_write_per_m BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN price_reasoning_per_m BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_records ADD COLUMN price_unit BIGINT NOT NULL DEFAULT 0;

ALTER TABLE usage_hours ADD COLUMN cache_write_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN reasoning_tokens BIGINT NOT NULL DEFAULT 0;
ALTER TABLE usage_hours ADD COLUMN units BIGINT NOT NULL DEFAULT 0;

-- NULL: as input, as output.
ALTER TABLE price_versions ADD COLUMN cache_write_per_m BIGINT NULL CHECK (cache_write_per_m >= 0);
ALTER TABLE price_versions ADD COLUMN reasoning_per_m BIGINT NULL CHECK (reasoning_per_m >= 0);
ALTER TABLE price_versions ADD COLUMN unit BIGINT NOT NULL DEFAULT 0 CHECK (unit >= 0);
