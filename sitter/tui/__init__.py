"""The terminal screens: a client of the daemon, never its owner."""
