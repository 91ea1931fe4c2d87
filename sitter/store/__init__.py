"""The run's history in SQLite: one writer, many readers."""
