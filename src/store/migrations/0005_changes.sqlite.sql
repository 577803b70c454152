-- One process only: notices stay in its memory. The table exists so that both engines have the same schema.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
