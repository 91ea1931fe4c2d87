"""What the writer says to SQLite; the tables are in ``schema.py``."""

LOG = "INSERT OR REPLACE INTO logbook VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
CHECKPOINT = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
INCIDENT = "INSERT OR REPLACE INTO incidents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
EVENT = "INSERT OR IGNORE INTO events (session, seq, step, branch, time, kind, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
FORGET_OLDEST = (
    "DELETE FROM events WHERE kind = ? AND id <= (SELECT id FROM events WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?)"
)
"""Of a kind of event: all but the newest so many."""
BRANCH = "INSERT OR REPLACE INTO branches VALUES (?, ?, ?, ?, ?)"
BRANCH_SEEN = "INSERT OR IGNORE INTO branches VALUES (?, ?, ?, ?, ?)"
GPUS = "INSERT INTO gpus (time, data) VALUES (?, ?)"
NEW_SESSION = "INSERT OR IGNORE INTO sessions (id, session, wall_ns, mono_ns) VALUES (?, ?, ?, ?)"
SESSION = "UPDATE sessions SET wall_ns = ?, mono_ns = ?, pid = coalesce(?, pid), host = coalesce(?, host) WHERE id = ?"
STARTED = "UPDATE sessions SET pid = ?, host = ?, about = ? WHERE id = ?"
