-- What an API key's requests with the customer's own provider keys were worth is summed from the records themselves;
-- requests of others cost this index nothing.
CREATE INDEX usage_byok ON usage_records (account_id, key_id, started_at) WHERE byok_ppm >= 0;
