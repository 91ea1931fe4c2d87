"""Statements of one transaction, in order."""

import logging
import sqlite3

from sitter.store.growing import Statement

log = logging.getLogger(__name__)

NEVER = (OverflowError, ValueError, sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""What is raised for something that no trying again will store."""


def execute(connection: sqlite3.Connection, statements: list[Statement]) -> int:
    """In order. One that can never be stored (a lone surrogate, a number too large) is taken out of the list, not tried for ever; how many
    those were. Other errors of SQLite's are raised, and may be tried again with what is left."""
    bad: list[int] = []
    for i, (statement, parameters) in enumerate(statements):
        try:
            connection.execute(statement, parameters)
        except NEVER as e:
            bad.append(i)
            log.error("not stored (%s…): %s", statement[:40], e)
    for i in reversed(bad):
        del statements[i]
    return len(bad)
