"""A training that takes its machine down is not started at every boot; what comes further is, however often."""

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from sitter.model import CheckpointInfo
from sitter.supervise import boots
from sitter_wire.places import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path)


def good(step: int, *, is_good: bool = True) -> CheckpointInfo:
    return CheckpointInfo(branch=0, step=step, path=f"c{step}", bytes=1, good=is_good, verified=True, pinned=False, sha256="")


def boot(run: RunDir, step: int | None, checkpoints: list[CheckpointInfo] | None = None) -> bool:
    """Whether it is started now."""
    told = boots.counted(run, step, checkpoints or [])
    started = not told.left_alone
    boots.write(run, msgspec.structs.replace(told, starts=told.starts + 1) if started else told)
    return started


def test_three_starts_that_came_no_further_are_the_last(run: RunDir) -> None:
    assert [boot(run, 500), boot(run, 420), boot(run, 500), boot(run, 480), boot(run, 480)] == [True, True, True, False, False]
    left = boots.read_boots(run)
    assert left.left_alone == "3 starts in a row by `sitter resume --all` did not get past step 500"
    first = left.at
    boot(run, 480)
    assert boots.read_boots(run).at == first, "it is decided once, and told once"
    boots.forget(run)
    assert boot(run, 500), "whoever started it by hand has looked"


def test_a_step_further_or_a_newer_good_checkpoint_begins_the_count_anew(run: RunDir) -> None:
    assert all(boot(run, 500 + n // 3) for n in range(12)), "a machine that goes away every day"
    kept = [good(300)]
    boots.forget(run)
    for n in range(12):
        if n % 3 == 2:
            kept.append(good(300 + n))
        assert boot(run, 500 - n, kept), "from the newest good checkpoint it repeats steps, and saves further ones"


def test_a_checkpoint_that_is_not_good_is_no_progress(run: RunDir) -> None:
    assert [boot(run, 500, [good(100 + n, is_good=False)]) for n in range(4)] == [True, True, True, False]


def test_what_tells_no_steps_came_further_where_it_printed_for_a_minute(run: RunDir) -> None:
    run.train_log.write_text("x")
    (run.path / "train.pid").write_text(json.dumps({"pid": 4194000, "started": time.time() - 30}))
    assert [boot(run, None) for _ in range(4)] == [True, True, True, False]
    assert "to a first step" in boots.read_boots(run).left_alone
    boots.forget(run)
    os.utime(run.train_log, (time.time() + 40, time.time() + 40))
    assert all(boot(run, None) for _ in range(8))


def test_a_damaged_file_counts_from_nothing(run: RunDir) -> None:
    for text in ("", "[]", '{"starts": "x"}', "\0"):
        (run.path / boots.BOOTS).write_text(text)
        assert boots.read_boots(run) == boots.Boots()
