"""What a full disk did not take is written when there is room; by an alarm that may come in the midst of another write."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sitter.supervise.late_files import LateFiles

IN_THE_MIDST = """
import json, os, signal, sys
from pathlib import Path
from sitter.supervise.late_files import LateFiles

class Slow(type(Path())):
    def write_bytes(self, data):
        with self.open("wb") as file:
            file.write(data[:1])
            file.flush()
            signal.raise_signal(signal.SIGALRM)
            file.write(data[1:])
    def replace(self, target):
        signal.raise_signal(signal.SIGALRM)
        super().replace(target)

files = LateFiles(Slow(sys.argv[1]))
files.try_again()
for n in range(3):
    files.put("one.json", {"n": n, "long": "x" * n})
    files.put("two.json", {"n": n})
"""


def test_an_alarm_in_the_midst_of_a_write_leaves_it_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", IN_THE_MIDST, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert json.loads((tmp_path / "one.json").read_text()) == {"n": 2, "long": "xx"}
    assert json.loads((tmp_path / "two.json").read_text()) == {"n": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.json", "two.json"]


def test_only_the_newest_is_written_when_there_is_room_and_the_trouble_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung = []
    monkeypatch.setattr(signal, "alarm", rung.append)
    before = signal.getsignal(signal.SIGALRM)
    files = LateFiles(tmp_path)
    try:
        files.try_again()
        (tmp_path / "one.json").mkdir()  # refuses as a full disk does
        for n in range(3):
            files.put("one.json", {"n": n})
        files.put("two.json", {})
        assert len(rung) == 4
        (tmp_path / "one.json").rmdir()
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert json.loads((tmp_path / "one.json").read_text()) == {"n": 2}
    assert len(rung) == 4, "nothing is left to be tried"
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot write one.json yet" in said


def test_a_place_that_refuses_everything_raises_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.json.new").mkdir()  # can be neither written nor removed as a file, as on what was made read-only
    LateFiles(tmp_path).put("one.json", {})
    assert "cannot write one.json yet: Is a directory" in capsys.readouterr().err
