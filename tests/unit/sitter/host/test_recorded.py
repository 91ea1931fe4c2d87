"""What the rules found live beside a real look at a driver, a replay of the recorded run finds again."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sitter.config import Config
from sitter.replay.from_run import from_run
from sitter.replay.player import Player
from sitter.store.reader import Reader
from sitter_wire.places import RunDir

HERE = Path(__file__).parent


def bare(text: str) -> str:
    return re.sub(r"step [\d,]+", "step N", text)


@pytest.mark.slow  # the quick form: test_from_run, what was not known at a look is not known in its replay
def test_a_throttled_and_lost_gpu_is_found_again_in_a_replay(tmp_path: Path, library: Path) -> None:
    control = tmp_path / "control"
    control.touch()
    env = {**os.environ, "STUB_NVML": str(control), "LD_LIBRARY_PATH": str(library)}
    words = [sys.executable, str(HERE / "recorded.py"), str(tmp_path), str(control)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)
    reader = Reader(RunDir(Path(live["run"])).history)
    try:
        lines = list(Player(Config(), "x").play(from_run(reader, "x")))
    finally:
        reader.close()
    told = [(line.step, line.rule, line.severity, line.text) for line in lines]
    assert [(rule, severity, bare(text)) for _, rule, severity, text in told] == [(r, s, bare(text)) for _, r, s, text in live["found"]]
    # When in a second the rules were asked is not in the history: two steps are one second.
    assert all(abs(step - then) <= 2 for (step, *_), (then, *_) in zip(told, live["found"], strict=True))
    said = {rule: text for _, rule, _, text in live["found"]}
    assert "held back by heat for 5 min (too hot (driver)) at 60 °C: 1400 MHz" in said["throttled"]
    assert "2 workers, 8 cores idle: try num_workers=6" in said["data_bound"]
    of_gpu = [text for _, rule, _, text in live["found"] if rule == "gpu_lost"]
    assert [any(words in text for text in of_gpu) for words in ("3 uncorrectable", "(Xid 31)", "off the bus (Xid 79)")] == [True] * 3
    assert len(of_gpu) == 3
