"""The machine's GPUs in words, as the history tells of them."""

import sqlite3

import msgspec

from sitter.model import GpuNow

_gpus = msgspec.msgpack.Decoder(list[GpuNow])


def in_words(connection: sqlite3.Connection) -> list[tuple[int, list[GpuNow]]]:
    """(microseconds of the wall clock, the GPUs from then on), oldest first; of a history that is older than this table, nothing."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'gpus'").fetchone() is None:
        return []
    return [(time, _gpus.decode(data)) for time, data in connection.execute("SELECT time, data FROM gpus ORDER BY id")]
