-- What a key may do and spend. Budgets are nano-dollars, limits per minute or per UTC day, 0 = none of its own.
-- `creator` is a user (null: the operator made it). `models` is a JSON list, empty = all. A regenerated key keeps its
-- former hash, good until previous_until. Existing keys keep every permission.
ALTER TABLE api_keys ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN creator BIGINT;
ALTER TABLE api_keys ADD COLUMN permissions BIGINT NOT NULL DEFAULT 4294967295 CHECK (permissions >= 0);
ALTER TABLE api_keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN budget_total BIGINT NOT NULL DEFAULT 0 CHECK (budget_total >= 0);
ALTER TABLE api_keys ADD COLUMN budget_daily BIGINT NOT NULL DEFAULT 0 CHECK (budget_daily >= 0);
ALTER TABLE api_keys ADD COLUMN budget_weekly BIGINT NOT NULL DEFAULT 0 CHECK (budget_weekly >= 0);
ALTER TABLE api_keys ADD COLUMN budget_monthly BIGINT NOT NULL DEFAULT 0 CHECK (budget_monthly >= 0);
ALTER TABLE api_keys ADD COLUMN ipm BIGINT NOT NULL DEFAULT 0 CHECK (ipm >= 0);
ALTER TABLE api_keys ADD COLUMN rpd BIGINT NOT NULL DEFAULT 0 CHECK (rpd >= 0);
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN updated_at BIGINT;
ALTER TABLE api_keys ADD COLUMN is_disabled BIGINT NOT NULL DEFAULT 0 CHECK (is_disabled = 0 OR is_disabled = 1);
ALTER TABLE api_keys ADD COLUMN previous_hash TEXT CHECK (length(previous_hash) = 64);
ALTER TABLE api_keys ADD COLUMN previous_until BIGINT;
-- New texts made on one UTC day (days since 1970), to bound them.
ALTER TABLE api_keys ADD COLUMN regenerated_day BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN regenerations BIGINT NOT NULL DEFAULT 0;
CREATE INDEX api_keys_previous_hash ON api_keys (previous_hash);
