"""A checkpoint before anything is started from it: which there are, and whether each is whole."""

import hashlib
import json
from pathlib import Path

import pytest

from sitter.model import CheckpointInfo
from sitter.supervise.checkpoint import unannounced, why_not_whole


def written(folder: Path, step: int, raw: bytes = b"state", **other: object) -> Path:
    path = folder / f"{step}-0.pt"
    path.write_bytes(raw)
    side = {"file": path.name, "step": step, "branch": 0, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "verified": True}
    path.with_suffix(".json").write_text(json.dumps({**side, **other}))
    return path


def info(path: Path, raw: bytes = b"state") -> CheckpointInfo:
    sha = hashlib.sha256(raw).hexdigest()
    return CheckpointInfo(branch=0, step=1, path=str(path), bytes=len(raw), good=False, verified=True, sha256=sha)


def test_one_whose_writer_was_killed_before_it_could_tell_is_found(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (1, 2, 3):
        written(folder, step, pinned=step == 2)
    written(folder, 4).unlink()
    (folder / "mine.json").write_text("{}")
    (folder / "torn.json").write_bytes(b"\xff{")
    found = unannounced(folder, {"checkpoints/1-0.pt"})
    assert [(c.step, c.path, c.verified, c.good, c.pinned) for c in found] == [
        (2, "checkpoints/2-0.pt", True, False, True), (3, "checkpoints/3-0.pt", True, False, False),
    ]  # fmt: skip
    assert unannounced(tmp_path / "nowhere", set()) == []


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: p.write_bytes(b"sta"), "is cut short: 3 bytes, expected 5"),
        (lambda p: p.write_bytes(b"statex"), "has grown"),
        (lambda p: p.write_bytes(b"stave"), "was altered"),
        (lambda p: p.unlink(), "cannot be read"),
        (lambda p: p.with_suffix(".json").unlink(), "which says what 1-0.pt is"),
        (lambda p: None, ""),
    ],
)
def test_a_broken_one_is_told(tmp_path, harm, says):
    path = written(tmp_path, 1)
    harm(path)
    why = why_not_whole(info(path))
    assert (says in why) if says else why == ""
