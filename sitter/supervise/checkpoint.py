"""Is a checkpoint still what it was when it was written? Asked before a training is started from it."""

import contextlib
import hashlib
from collections.abc import Container
from pathlib import Path

import msgspec

from sitter.model import CheckpointInfo

BLOCK = 4 << 20


class Beside(msgspec.Struct, frozen=True):
    """Of the small file beside a checkpoint what is needed to know it."""

    file: str
    step: int
    branch: int
    bytes: int
    sha256: str
    verified: bool = False
    pinned: bool = False


def unannounced(folder: Path, known: Container[str]) -> list[CheckpointInfo]:
    """Those that are on disk and were never told of, since the writer was killed between the two. ``known``: paths from the run directory,
    as the returned ones are."""
    found = []
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            side = msgspec.json.decode(path.read_bytes(), type=Beside)
            name = f"{folder.name}/{side.file}"
            if name in known or (folder / side.file).with_suffix(".json") != path or not (folder / side.file).is_file():
                continue
            found.append(
                CheckpointInfo(
                    branch=side.branch, step=side.step, path=name, bytes=side.bytes, good=False, verified=side.verified, pinned=side.pinned,
                    sha256=side.sha256,
                )
            )
    return found


def why_not_whole(info: CheckpointInfo) -> str:
    """One sentence where the file is gone, cut short or altered, or says no longer what it is; empty where it is whole. Reads all of it."""
    path = Path(info.path)
    try:
        found = path.stat().st_size
        if found != info.bytes:
            return f"{path} {'is cut short' if found < info.bytes else 'has grown'}: {found} bytes, expected {info.bytes}"
        if not path.with_suffix(".json").is_file():
            return f"{path.with_suffix('.json')} is not there, which says what {path.name} is"
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as e:
        return f"{path} cannot be read ({e.strerror})"
    if digest.hexdigest() != info.sha256:
        return f"{path} was altered: its sha256 is {digest.hexdigest()[:12]}…, expected {info.sha256[:12]}…"
    return ""
