"""The history for other tools: CSV, and TensorBoard's event files.

Rows are in the order logged; points of one step are one row. Steps that a restore left behind are left out unless asked for. Values come
out exactly in CSV (``repr`` of the float, ``nan``, ``inf``, ``-inf``; empty: not logged); TensorBoard's scalars are float32.
"""

import csv
import shlex
import struct
import sys
from collections.abc import Iterator, Sequence
from heapq import merge
from pathlib import Path
from typing import IO, NamedTuple

from sitter.clock import iso
from sitter.errors import StoreError
from sitter.store.lines import Stretch
from sitter.store.reader import Reader
from sitter.store.series import GroupRow


class Row(NamedTuple):
    """Everything that was logged at a step, one value for each signal; ``time`` unix seconds of the first of it."""

    step: int
    branch: int
    time: float
    values: dict[str, float]


_Ordered = tuple[tuple[int, int, int], int, int, float, dict[str, float]]


def _points(reader: Reader, group: GroupRow, kept: dict[int, Stretch] | None, wanted: set[str]) -> Iterator[_Ordered]:
    clocks = reader.clocks()
    columns = [i for i, name in enumerate(group.names) if name in wanted]
    names = [group.names[i] for i in columns]
    for rows in reader.rows(group):
        stretch = kept.get(rows.branch) if kept is not None else Stretch(rows.branch, -(1 << 63), None)
        if stretch is None:
            continue
        order = clocks.order.get(rows.session, (0, rows.session))
        for seq, step, time, *values in zip(rows.seq, rows.step, rows.time, *(rows.columns[i] for i in columns), strict=True):
            if step > stretch.after and (stretch.to is None or step <= stretch.to):
                named = dict(zip(names, values, strict=True))
                yield (*order, seq), step, rows.branch, clocks.wall(rows.session, time), named


def signals(reader: Reader, chosen: Sequence[str] | None = None) -> list[str]:
    """The signals that go by steps, sorted, or those of them that were chosen. Raises StoreError for one that was never logged."""
    known = sorted({name for group in reader.groups() if not group.host for name in group.names})
    if chosen is None:
        return known
    for name in chosen:
        if name not in known:
            raise StoreError(f"no signal {name!r} was logged by steps: expected some of {', '.join(known) or 'none'}; leave it out")
    return list(dict.fromkeys(chosen))


def rows(reader: Reader, *, abandoned: bool = False, chosen: Sequence[str] | None = None) -> Iterator[Row]:
    """The run, a row for each step of a branch. ``abandoned`` adds what restores left behind, where it happened. Raises StoreError."""
    names = set(signals(reader, chosen))
    kept = None if abandoned else {s.branch: s for s in reader.line()}
    streams = [_points(reader, group, kept, names) for group in reader.groups() if not group.host and not names.isdisjoint(group.names)]
    row: Row | None = None
    for _, step, branch, time, values in merge(*streams, key=lambda p: p[0]):
        if row is not None and (row.step, row.branch) == (step, branch) and row.values.keys().isdisjoint(values):
            row.values.update(values)
            continue
        if row is not None:
            yield row
        row = Row(step, branch, time, values)
    if row is not None:
        yield row


def to_csv(reader: Reader, out: IO[str], *, abandoned: bool = False, chosen: Sequence[str] | None = None) -> int:
    """``step,branch,time,<signals…>``; returns how many rows. Raises StoreError; OSError where ``out`` cannot be written."""
    names = signals(reader, chosen)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["step", "branch", "time", *names])
    count = 0
    for row in rows(reader, abandoned=abandoned, chosen=chosen):
        # csv writes floats by repr: exact, and nan, inf, -inf as these words
        writer.writerow([row.step, row.branch, iso(row.time), *(row.values.get(name, "") for name in names)])
        count += 1
    return count


FORMATS = ("csv", "tensorboard")
"""What ``export`` writes."""


def export(reader: Reader, form: str, output: Path | None, *, abandoned: bool = False, run: str = "run") -> str:
    """Writes the run in one of ``FORMATS`` and says in a sentence what it wrote.

    csv: to ``output``, or to stdout without one. tensorboard: into ``output/RUN`` (``./tensorboard/RUN`` without one), so that several runs
    exported to one place stand side by side. Raises StoreError, also where it cannot be written.
    """
    try:
        if form == "tensorboard":
            place = output or Path("tensorboard")
            wrote = to_tensorboard(reader, place / run, abandoned=abandoned)
            return f"wrote {wrote}: look with `tensorboard --logdir {shlex.quote(str(place))}`"
        if output is None:
            return f"wrote {to_csv(reader, sys.stdout, abandoned=abandoned)} rows"
        with output.open("w", encoding="utf-8", newline="") as file:
            return f"wrote {to_csv(reader, file, abandoned=abandoned)} rows to {output}"
    except BrokenPipeError:
        raise  # whoever read our output has seen enough: main's to handle
    except OSError as e:
        raise StoreError(f"cannot write the export ({e.strerror}: {e.filename or output or 'stdout'}): choose another place with -o") from e


# -- TensorBoard -----------------------------------------------------------------------------------------------------------------
# A file of records: length (uint64), its masked CRC-32C, an Event message, its masked CRC-32C. Of tensorflow/core/util/event.proto and
# framework/summary.proto only: Event{1: wall_time double, 2: step int64, 3: file_version string, 5: summary}, Summary{1: value repeated},
# Value{1: tag string, 2: simple_value float}.


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC (RFC 3720, appendix B.4)."""
    crc, table = 0xFFFFFFFF, _CRC
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _varint(n: int) -> bytes:
    n &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _masked(length) + event + _masked(event)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:  # finite, but beyond float32
        return struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def to_tensorboard(reader: Reader, directory: Path, *, abandoned: bool = False, chosen: Sequence[str] | None = None) -> Path:
    """One event file in ``directory`` (made where it is missing); abandoned branches, if asked for, each in a folder ``branch-N``.

    Returns the file of the present line. Raises StoreError; OSError where it cannot be written.
    """
    present = {s.branch: s for s in reader.line()}
    tags = {name: _field(1, name.encode()) for name in signals(reader, chosen)}
    files: dict[int, IO[bytes]] = {}
    main = directory / "events.out.tfevents.0000000000.sitter"

    def file(branch: int) -> IO[bytes]:
        """−1: the present line."""
        if branch not in files:
            path = main if branch < 0 else directory / f"branch-{branch}" / main.name
            path.parent.mkdir(parents=True, exist_ok=True)
            files[branch] = path.open("wb")
            start = reader.clocks().start_ns / 1e9
            files[branch].write(_record(b"\x09" + struct.pack("<d", start) + _field(3, b"brain.Event:2")))
        return files[branch]

    try:
        file(-1)
        for row in rows(reader, abandoned=abandoned, chosen=chosen):
            stretch = present.get(row.branch)
            on_line = stretch is not None and row.step > stretch.after and (stretch.to is None or row.step <= stretch.to)
            summary = b"".join(_field(1, tags[name] + b"\x15" + _float32(value)) for name, value in row.values.items())
            event = b"\x09" + struct.pack("<d", row.time) + b"\x10" + _varint(row.step) + _field(5, summary)
            file(-1 if on_line else row.branch).write(_record(event))
    finally:
        for opened in files.values():
            opened.close()
    return main
