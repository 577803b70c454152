-- Responses that clients may ask for again or continue: the request's own input items and the response object, both
-- deflated JSON.
CREATE TABLE stored_responses (
    account_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    previous_id INTEGER NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    input BLOB NOT NULL,
    response BLOB NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX stored_responses_by_expiry ON stored_responses (expires_at);
