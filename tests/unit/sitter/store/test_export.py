"""What comes out is what went in, in the words other tools read."""

import csv
import errno
import io
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from sitter.errors import StoreError
from sitter.store import export
from sitter_wire import events
from sitter_wire.records import Happening, Point


@pytest.fixture
def run(store: Any) -> Any:
    """Steps 0…99, back to 59, on to 119; a validation every 20; one NaN, one infinity."""
    records: list[Any] = [Happening(1, 0, 0, store.mono, events.SessionStart(pid=1, host="h", branch=0))]

    def steps(first: int, last: int, branch: int) -> None:
        for step in range(first, last + 1):
            at = store.mono + len(records) * 10**9
            loss = math.nan if step == 5 else math.inf if step == 7 else 1 / (step + 3) + branch
            records.append(Point(len(records) + 1, step, branch, at, ("loss", "lr"), (loss, 0.1)))
            if step % 20 == 0:
                records.append(Point(len(records) + 1, step, branch, at, ("val_loss",), (loss * 2,)))

    steps(0, 99, 0)
    at = store.mono + len(records) * 10**9
    records.append(Happening(len(records) + 1, 59, 1, at, events.Restored(branch=1, step=59, from_branch=0, left=99, source="snapshot")))
    steps(60, 119, 1)
    store.put(records)
    store.writer.host(store.wall / 1e9, {"gpu0.util": 5.0})
    assert store.writer.flush()
    return store


def read(run: Any, **options: Any) -> list[dict[str, str]]:
    out = io.StringIO()
    count = export.to_csv(run.reader, out, **options)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == count
    return rows


def test_csv_is_the_present_line_exactly(run: Any) -> None:
    rows = read(run)
    assert list(rows[0]) == ["step", "branch", "time", "loss", "lr", "val_loss"]
    assert [int(r["step"]) for r in rows] == list(range(120))
    assert [int(r["branch"]) for r in rows] == [0] * 60 + [1] * 60
    assert (rows[5]["loss"], rows[7]["loss"], rows[1]["val_loss"]) == ("nan", "inf", "")
    assert [float(r["loss"]) for r in rows[8:]] == [1 / (s + 3) + (s >= 60) for s in range(8, 120)]
    assert [r["step"] for r in rows if r["val_loss"]] == ["0", "20", "40", "60", "80", "100"]


def test_csv_has_what_was_left_behind_if_asked(run: Any) -> None:
    rows = read(run, abandoned=True)
    assert [(int(r["branch"]), int(r["step"])) for r in rows] == [(0, s) for s in range(100)] + [(1, s) for s in range(60, 120)]


def test_signals_can_be_chosen_and_a_wrong_name_is_said(run: Any) -> None:
    assert list(read(run, chosen=["val_loss"])[0]) == ["step", "branch", "time", "val_loss"]
    with pytest.raises(StoreError, match=r"'nonsense'.*loss, lr, val_loss"):
        read(run, chosen=["nonsense"])


def test_a_signal_logged_twice_in_a_step_keeps_both(store: Any) -> None:
    store.put([Point(1, 3, 0, 0, ("loss",), (1.0,)), Point(2, 3, 0, 0, ("loss",), (2.0,)), Point(3, 3, 0, 0, ("acc",), (0.5,))])
    assert [(r["loss"], r["acc"]) for r in read(store)] == [("1.0", ""), ("2.0", "0.5")]


def test_crc32c_is_castagnolis() -> None:
    # RFC 3720, appendix B.4
    assert export.crc32c(b"123456789") == 0xE3069283
    assert export.crc32c(bytes(32)) == 0x8A9136AA
    assert export.crc32c(bytes(range(32))) == 0x46DD794E


def frames(path: Path) -> list[bytes]:
    """The records of an event file, their checks verified."""
    data, at, out = path.read_bytes(), 0, []

    def masked(part: bytes) -> int:
        crc = export.crc32c(part)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    while at < len(data):
        (n,), (check,) = struct.unpack_from("<Q", data, at), struct.unpack_from("<I", data, at + 8)
        assert masked(data[at : at + 8]) == check
        out.append(data[at + 12 : at + 12 + n])
        assert masked(out[-1]) == struct.unpack_from("<I", data, at + 12 + n)[0]
        at += 16 + n
    return out


def test_event_files_hold_a_record_for_each_step_and_their_checks(run: Any, tmp_path: Path) -> None:
    path = export.to_tensorboard(run.reader, tmp_path / "tb")
    assert len(frames(path)) == 1 + 120
    assert b"brain.Event:2" in frames(path)[0]
    export.to_tensorboard(run.reader, tmp_path / "all", abandoned=True)
    (left,) = (tmp_path / "all" / "branch-0").iterdir()
    assert len(frames(left)) == 1 + 40


def test_tensorboard_itself_reads_them(run: Any, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    export.to_tensorboard(run.reader, tmp_path)
    found = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert sorted(found.Tags()["scalars"]) == ["loss", "lr", "val_loss"]
    loss = found.Scalars("loss")
    assert [e.step for e in loss] == list(range(120))
    assert math.isnan(loss[5].value)
    assert loss[7].value == math.inf
    assert [e.value for e in loss[8:]] == pytest.approx([1 / (s + 3) + (s >= 60) for s in range(8, 120)], rel=1e-6)
    assert loss[0].wall_time == pytest.approx(run.wall / 1e9 + 1)


def test_a_place_that_cannot_be_written_is_said(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for form in export.FORMATS:
        with pytest.raises(StoreError, match="cannot write the export"):
            export.export(run.reader, form, tmp_path / "file" / "below", run="r")
    said = export.export(run.reader, "csv", tmp_path / "out.csv", run="r")
    assert said.startswith("wrote 120 rows")


def test_a_place_with_a_space_can_be_copied_into_a_shell_and_stdout_has_a_name(run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    said = export.export(run.reader, "tensorboard", tmp_path / "my logs")
    assert said.endswith(f"`tensorboard --logdir '{tmp_path}/my logs'`")

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(StoreError, match="No space left on device: stdout"):
        export.export(run.reader, "csv", None)
