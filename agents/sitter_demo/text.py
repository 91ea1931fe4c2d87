"""Real text without a download: the source files of the Python that runs this."""

import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

LIMIT = 10_000_000
"""Bytes of text, train and validation together: enough that a demo's few minutes see no window twice."""
LEFT_OUT = frozenset({
    "site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "__pycache__",
})  # fmt: skip
"""Folders that are not the library itself, may be missing, or are tables rather than text."""
EVERY = 12
"""Every so many-th file is kept for validation; whole files, so that nothing of it was ever trained on."""


class TextError(RuntimeError):
    """There is no text to learn from."""


@dataclass(frozen=True)
class Text:
    """``train`` and ``val``: the bytes of whole files, one after another. ``files``: how many they were."""

    train: Bytes
    val: Bytes
    files: int


def stdlib_text(limit: int = LIMIT, folder: Path | None = None) -> Text:
    """The modules of the standard library in order of their paths, the same on every call for one Python.

    ``folder`` defaults to this Python's own. Raises TextError where it holds too little (an embedded or zipped Python).
    """
    folder = folder or Path(sysconfig.get_path("stdlib"))
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    size = files = 0
    found = (path.relative_to(folder) for path in folder.rglob("*.py"))
    for name in sorted((name for name in found if not LEFT_OUT.intersection(name.parts)), key=Path.as_posix):
        if size >= limit:
            break
        try:
            text = (folder / name).read_bytes()[: limit - size]
        except OSError:
            continue  # one file that cannot be read is not the end of it; too little of all is told below
        parts[files % EVERY == EVERY - 1].append(text)
        size += len(text)
        files += 1
    train, val = (np.frombuffer(b"".join(p), dtype=np.uint8) for p in parts)
    if min(len(train), len(val)) < 10_000:
        raise TextError(
            f"expected the standard library in {folder}, found {size} bytes: use a Python that has its .py files"
        )
    return Text(train=train, val=val, files=files)
