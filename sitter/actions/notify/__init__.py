"""Telling somebody: one file per way, one thread per notifier."""
