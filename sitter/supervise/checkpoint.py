"""Is a checkpoint still what it was when it was written? Asked before a training is started from it."""

import hashlib
from pathlib import Path

from sitter.model import CheckpointInfo

BLOCK = 4 << 20


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
