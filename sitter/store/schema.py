"""The tables of history.db, how they came to be, and the two ways to open them.

Values lie in chunks: names that are logged together are a group, and a group's points share one column each for sequence, step and time.
``chunks`` holds closed ones, ``pieces`` what the open chunk of each group has got so far, one row a commit; ``pages`` and
``fine_pages`` have the roll-ups of 64 closed chunks together, so that a million points are drawn from a handful of rows. A chunk is of
one session and one branch.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from sitter.errors import DamagedError, StoreError
from sitter.version import VERSION

APPLICATION_ID = 0x53495452
"""``SITR`` in the file's header: this database is ours."""

CHECK_UP_TO = 16 << 20
"""Bytes; a file up to this size is checked through when a writer opens it (0.2 s), a larger one only where it is read."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE sessions (
            id INTEGER PRIMARY KEY, session TEXT NOT NULL UNIQUE, wall_ns INTEGER NOT NULL, mono_ns INTEGER NOT NULL,
            pid INTEGER, host TEXT, about BLOB, last_seq INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE branches (
            branch INTEGER PRIMARY KEY, session TEXT NOT NULL, parent_branch INTEGER, parent_step INTEGER, started REAL)""",
        # host = 1: figures of the machine over wall time; session 0, step 0.
        "CREATE TABLE groups (id INTEGER PRIMARY KEY, host INTEGER NOT NULL, names BLOB NOT NULL, UNIQUE (host, names))",
        # id = group << 32 | number within the group: a group's chunks lie together and in order. Times in microseconds.
        """CREATE TABLE chunks (
            id INTEGER PRIMARY KEY, n INTEGER NOT NULL, session INTEGER NOT NULL, branch INTEGER NOT NULL,
            first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, step_lo INTEGER NOT NULL, step_hi INTEGER NOT NULL,
            time_lo INTEGER NOT NULL, time_hi INTEGER NOT NULL, coarse BLOB NOT NULL, data BLOB NOT NULL)""",
        # Fine roll-ups of a closed chunk, until its page has them.
        "CREATE TABLE fines (chunk INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        """CREATE TABLE pieces (
            chunk INTEGER NOT NULL, piece INTEGER NOT NULL, n INTEGER NOT NULL, session INTEGER NOT NULL, branch INTEGER NOT NULL,
            last_seq INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chunk, piece)) WITHOUT ROWID""",
        # id = group << 32 | column << 20 | page; column 0: the axes; column i + 1: roll-ups of the group's i-th name.
        "CREATE TABLE pages (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE fine_pages (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL, step INTEGER NOT NULL, branch INTEGER NOT NULL,
            time INTEGER NOT NULL, kind TEXT NOT NULL, data BLOB NOT NULL, UNIQUE (session, seq))""",
        "CREATE INDEX events_by_kind ON events (kind, id)",
        """CREATE TABLE logbook (
            id INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL, step INTEGER, branch INTEGER, rule TEXT, action TEXT,
            status TEXT, detail TEXT NOT NULL)""",
        """CREATE TABLE checkpoints (
            path TEXT PRIMARY KEY, branch INTEGER NOT NULL, step INTEGER NOT NULL, bytes INTEGER NOT NULL, good INTEGER NOT NULL,
            verified INTEGER NOT NULL, pinned INTEGER NOT NULL, best INTEGER NOT NULL, time REAL, sha256 TEXT NOT NULL)""",
        """CREATE TABLE incidents (
            id INTEGER PRIMARY KEY, rule TEXT NOT NULL, branch INTEGER NOT NULL, onset INTEGER NOT NULL, began REAL NOT NULL,
            text TEXT NOT NULL, ended REAL, verdict TEXT, steps_lost INTEGER, seconds_lost REAL)""",
        "CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
    (
        # The machine's GPUs in words (which, whose, what the driver notes and reports of them) from a time (microseconds) on.
        "CREATE TABLE gpus (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, data BLOB NOT NULL)",
    ),
)
"""Migration i (from 1) brings a history from version i−1 to i. Never edit one that was released; append."""


READS_FROM = 1
"""The oldest version that can be read as it is: on a read-only place nobody can bring it up to date."""

DAMAGE = ("malformed", "not a database", "corrupt", "no such table", "no such column", "has no column", "datatype mismatch")
"""In what SQLite says: the file will not become better by trying again."""


GONE = "the file was deleted or replaced"
"""Said as SQLite would say it, which does not notice."""


def store_error(error: Exception, path: Path) -> StoreError:
    """What SQLite said, as the error that a person sees."""
    return (DamagedError if any(sign in str(error) for sign in DAMAGE) else StoreError)(told(error, path))


def told(error: Exception, path: Path) -> str:
    """What SQLite said, as one sentence for a person."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return f"the history {path} is locked by another process: expected to be its only writer; end the other one"
    if "full" in text:
        return f"the disk under {path} is full: nothing more can be written; free some space"
    if GONE in text:
        return f"the history {path} was deleted or replaced while it was in use: it is put back, and the next daemon goes on with it"
    if any(sign in text for sign in DAMAGE):
        return f"the history {path} is damaged ({text}): the next daemon moves it aside and begins a new one; `sitter attach` starts one"
    if "unable to open" in text or "readonly" in text or "disk I/O" in text:
        return f"the history {path} cannot be used ({text}): expected a file and a folder that can be written; look at both"
    return f"the history {path} cannot be used: {text}"


def _connect(path: Path, *, uri: str | None = None) -> sqlite3.Connection:
    # One connection is used by one thread at a time; whoever holds it sees to that.
    return sqlite3.connect(
        uri or str(path), uri=uri is not None, isolation_level=None, check_same_thread=False, timeout=5.0, cached_statements=64
    )


def _check(connection: sqlite3.Connection, path: Path, newest: int) -> int:
    """The history's version. Raises StoreError for what is not ours or newer than this program; sqlite3.Error passes."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program: expected a history of sitter; move it aside")
    if version > newest:
        raise StoreError(f"{path} was written by a newer sitter (version {version}, this one reads up to {newest}): upgrade sitter")
    return int(version)


def migrate(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS, *, now: float | None = None
) -> None:
    """Bring the history to the newest version; each migration commits together with its record, or not at all."""
    version = _check(connection, path, len(migrations))
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied REAL NOT NULL, sitter TEXT NOT NULL)"
            )
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, time.time() if now is None else now, VERSION))
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("COMMIT")
        except BaseException:  # whatever it was, no half of a migration stays; raised again
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextlib.contextmanager
def _opening(path: Path) -> Iterator[contextlib.ExitStack]:
    """What goes wrong meanwhile, as StoreError; the connections that were put on the stack are closed then."""
    with contextlib.ExitStack() as opened:
        try:
            yield opened
        except (sqlite3.Error, OSError) as e:
            raise store_error(e, path) from e
        except UnicodeDecodeError as e:  # SQLite quotes damaged bytes in its message, and Python cannot read that
            raise store_error(ValueError(f"malformed: {e}"), path) from e
        opened.pop_all()


def open_writer(path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """The one connection that writes; the file is made, checked and brought up to date. Raises StoreError."""
    with _opening(path) as opened:
        connection = opened.enter_context(contextlib.closing(_connect(path)))
        _check(connection, path, len(migrations))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {16 << 20}")
        connection.execute("PRAGMA cache_size = -2048")
        if path.stat().st_size <= CHECK_UP_TO:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(f"malformed: {' '.join(found.split())}")
        migrate(connection, path, migrations)
        connection.execute("PRAGMA busy_timeout = 1000")  # whoever opens may wait; who writes tries again by itself
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises StoreError where there is no history, or none that this version reads."""
    if not path.is_file():
        raise StoreError(f"there is no history at {path}: expected a run that has recorded something; look with `sitter ls`")
    name = path.resolve().as_uri()
    with _opening(path) as opened:
        try:
            connection = opened.enter_context(contextlib.closing(_connect(path, uri=f"{name}?mode=ro")))
            version = _check(connection, path, len(MIGRATIONS))
        except sqlite3.OperationalError as e:
            if "unable to open" not in str(e) and "readonly" not in str(e):
                raise
            opened.close()
            # On a read-only place there is no -shm to share: then nobody writes there either, and it may be read as it lies.
            connection = opened.enter_context(contextlib.closing(_connect(path, uri=f"{name}?mode=ro&immutable=1")))
            version = _check(connection, path, len(MIGRATIONS))
        if version < READS_FROM:
            raise StoreError(f"{path} is from an older sitter (version {version}) or empty: a daemon brings it up to date when it opens it")
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -1024")
    return connection


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors, damaged chunks, and rows that are not there although others say so, as StoreError."""
    try:
        yield
    except sqlite3.Error as e:
        raise store_error(e, path) from e
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError) as e:
        raise store_error(ValueError(f"malformed: {e}"), path) from e
