-- Requests per UTC day. `day` counts from 1970-01-01. A process takes a block in advance and gives back what it
-- did not use, so `taken` is never less than what was admitted.
CREATE TABLE rate_days (
    subject_kind BIGINT NOT NULL,
    subject_id BIGINT NOT NULL,
    day BIGINT NOT NULL,
    taken BIGINT NOT NULL CHECK (taken >= 0),
    PRIMARY KEY (subject_kind, subject_id, day)
);
