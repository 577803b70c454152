-- Processes that share this database, and what they tell each other. Times are microseconds since 1970 by the
-- database's own clock. A node's rows elsewhere (slices) may be taken over once its lease has expired.
CREATE TABLE nodes (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id > 0),
    number BIGINT NOT NULL UNIQUE CHECK (number BETWEEN 0 AND 1023),
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
