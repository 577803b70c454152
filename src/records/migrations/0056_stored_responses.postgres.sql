-- Responses that clients may ask for again or continue: the request's own input items and the response object, both
-- deflated JSON.
CREATE TABLE stored_responses (
    account_id BIGINT NOT NULL,
    id BIGINT NOT NULL,
    previous_id BIGINT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    input BYTEA NOT NULL,
    response BYTEA NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX stored_responses_by_expiry ON stored_responses (expires_at);
