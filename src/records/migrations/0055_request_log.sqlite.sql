-- What is told of requests beside their bill. A row holds the requests of one account that ended within about a second,
-- one JSON object a line: a row for each request would cost as much as serving it. first_id and last_id are the
-- smallest and the largest request id in it; ids grow with the time a request began.
CREATE TABLE request_log (
    account_id INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    first_id INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    entry_count INTEGER NOT NULL CHECK (entry_count > 0),
    entries TEXT NOT NULL,
    PRIMARY KEY (account_id, last_id)
);
CREATE INDEX request_log_by_time ON request_log (written_at);

-- Bodies, where the operator keeps them: deflated {"input":…,"output":…}.
CREATE TABLE request_bodies (
    account_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX request_bodies_by_time ON request_bodies (written_at);

-- What a customer said of an answer; the last word counts.
CREATE TABLE request_feedback (
    account_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    category TEXT NOT NULL,
    comment TEXT NOT NULL,
    PRIMARY KEY (account_id, id)
);
CREATE INDEX request_feedback_by_time ON request_feedback (created_at);
