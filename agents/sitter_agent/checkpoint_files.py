"""A checkpoint on disk: written so that it is whole or not there, and read so that a damaged one is told."""

import contextlib
import errno
import hashlib
import io
import os
import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from sitter_wire.places import small_file

FORMAT = 1
BLOCK = 1 << 20
SAMPLES = 16
"""Blocks read back beside the first and the last."""
SUFFIXES = (".npz", ".pt")
LEFT_S = 3600.0
"""A temp file that nobody has written to for so long is nobody's, whoever has its process id now."""

_writing: set[Path] = set()
"""Temp files of this process that are being written."""


class DamagedError(ValueError):
    """A checkpoint file is cut short, altered, or not one."""


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """``12300-0.json`` beside ``12300-0.pt``: what the file is and how to know that it is whole.

    ``line`` is the line of branches that led to it: (branch, step it started after). ``goal`` the goal's last value before it.
    """

    file: str
    sha256: str
    bytes: int
    step: int
    branch: int
    format: int = FORMAT
    adapter: str = ""
    session: str = ""
    time: str = ""
    cleared: bool = False
    verified: bool = False
    pinned: bool = False
    why: str = ""
    goal: float | None = None
    seconds: float = 0.0
    line: list[tuple[int, int]] = []


class HashingFile(io.RawIOBase):
    """A file that can only be written forward: SHA-256 of everything, CRC-32 of every block, for the reading back."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.sha = hashlib.sha256()
        self.crcs: list[int] = []
        self._crc, self._in_block = 0, 0
        self.size = 0
        self.failed: OSError | None = None
        """Why a write failed. Whoever writes through this may say something else: of a full disk torch says ``unexpected pos``."""

    def writable(self) -> bool:
        """It is for nothing else."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def write(self, data: Any) -> int:
        """All of it, or OSError."""
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            try:
                n = os.write(self._fd, view[at : at + 8 * BLOCK])
            except OSError as e:
                self.failed = self.failed or e
                raise
            self._take(view[at : at + n])
            at += n
        return len(view)

    def _take(self, view: memoryview) -> None:
        self.sha.update(view)
        self.size += len(view)
        while len(view):
            n = min(len(view), BLOCK - self._in_block)
            self._crc = zlib.crc32(view[:n], self._crc)
            self._in_block += n
            if self._in_block == BLOCK:
                self.crcs.append(self._crc)
                self._crc, self._in_block = 0, 0
            view = view[n:]

    def end(self) -> list[int]:
        """CRCs of all blocks, the last one short."""
        return [*self.crcs, self._crc] if self._in_block else self.crcs


def write_durably(
    path: Path, fill: Callable[[BinaryIO], None], *, full_check: bool, first: Callable[[str, int, bool], None] | None = None
) -> tuple[str, int, bool]:
    """Temp file, fsync, read back, rename, directory fsync. (sha256, bytes, verified). Raises what ``fill`` or the disk raises;
    then no file of this name has appeared or changed.

    ``first`` is told the same before the rename, and may write the sidecar: killed between the two, there is a small sidecar without a
    file, which is known for what it is, and no large file that nothing knows.
    """
    tmp = path.with_name(f".{path.name}.tmp{os.getpid()}")
    _writing.add(tmp)
    fd = -1
    try:
        fd = os.open(tmp, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
        out = HashingFile(fd)
        try:
            fill(cast(BinaryIO, out))
        except Exception as e:
            if out.failed is not None and out.failed is not e:
                raise out.failed from e
            raise
        os.fsync(fd)
        verified = _reads_back(fd, out, full_check)
        if not verified:
            raise DamagedError(f"{path.name} reads back differently from what was written: the disk lost some of it")
        if first is not None:
            first(out.sha.hexdigest(), out.size, verified)
        tmp.replace(path)
        try:
            sync_directory(path.parent)
        except BaseException:  # nobody will be told of it: it must not lie there and take room
            path.unlink(missing_ok=True)
            raise
        return out.sha.hexdigest(), out.size, verified
    except BaseException:  # an interrupt, too, leaves no half file behind; it is raised again
        tmp.unlink(missing_ok=True)
        raise
    finally:
        if fd >= 0:
            os.close(fd)
        _writing.discard(tmp)


def write_text(path: Path, text: bytes) -> None:
    """A small file, whole or not there."""
    tmp = path.with_name(f".{path.name}.tmp{os.getpid()}")
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        tmp.replace(path)
        sync_directory(path.parent)
    except BaseException:  # an interrupt, too, leaves no half file behind; it is raised again
        tmp.unlink(missing_ok=True)
        raise


def sync_directory(folder: Path) -> None:
    """A rename is only sure once its directory is on disk. Where the file system knows no such thing (some of FUSE and SMB), nothing is."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise
    finally:
        os.close(fd)


def sidecar_of(path: Path) -> Path:
    """Where the sidecar of a checkpoint lies."""
    return path.with_suffix(".json")


def read_sidecar(path: Path) -> Sidecar:
    """Of a checkpoint file or of the sidecar itself. Raises DamagedError."""
    side = path if path.suffix == ".json" else sidecar_of(path)
    try:
        found = msgspec.json.decode(small_file(side), type=Sidecar)
    except FileNotFoundError:
        raise DamagedError(
            f"{side} is not there, so nothing says whether {path.name} is whole: use another checkpoint"
        ) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise DamagedError(f"{side} cannot be read ({e}): use another checkpoint") from e
    if found.file not in (side.with_suffix(suffix).name for suffix in SUFFIXES):
        # Believed, retention would delete a file that is none of ours.
        raise DamagedError(f"{side} speaks of {found.file[:100]!r}, expected {side.stem}.pt or .npz: use another checkpoint")
    if found.format > FORMAT:
        raise DamagedError(f"{side} is of format {found.format}, this version reads {FORMAT}: upgrade sitter")
    return found


def check(path: Path, side: Sidecar) -> None:
    """Read the whole file. Raises DamagedError where it is not there, cut short, or altered."""
    try:
        found = path.stat().st_size
        if found != side.bytes:
            kind = "is cut short" if found < side.bytes else "has grown"
            raise DamagedError(f"{path} {kind}: {found} bytes, expected {side.bytes}; use another checkpoint")
        sha = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(4 * BLOCK):
                sha.update(block)
    except OSError as e:
        raise DamagedError(f"{path} cannot be read ({e.strerror}); use another checkpoint") from e
    if sha.hexdigest() != side.sha256:
        raise DamagedError(
            f"{path} was altered: its sha256 is {sha.hexdigest()[:12]}…, expected {side.sha256[:12]}…; use another"
        )


def sidecars(folder: Path) -> list[Sidecar]:
    """Of all checkpoints in a folder that have one and whose file is there, oldest step first. Damaged ones are left out."""
    found = []
    try:
        names = sorted(folder.iterdir())
    except OSError:
        return []
    for path in names:
        if path.suffix != ".json" or path.name.startswith("."):
            continue
        try:
            side = read_sidecar(path)
        except DamagedError:
            continue
        if (folder / side.file).is_file():
            found.append(side)
    return sorted(found, key=lambda s: (s.step, s.branch))


def free_name(folder: Path, step: int, branch: int, suffix: str) -> Path:
    """``12300-0.pt``; where that is taken (the same step is written once more) ``12300-0-2.pt``, so that the one that is there stays whole
    until the new one is."""
    for n in range(1, 10_000):
        path = folder / f"{step}-{branch}{'' if n == 1 else f'-{n}'}{suffix}"
        if not path.exists() and not sidecar_of(path).exists():
            return path
    raise OSError(f"{folder} holds 9,999 checkpoints of step {step}: remove some")


def sweep(folder: Path) -> None:
    """What a killed writer left: temp files, and sidecars whose file never came (or went first). Called by the only writer there is."""
    for path in folder.glob(".*.tmp*"):
        pid = path.suffix.removeprefix(".tmp")
        if not pid.isdigit() or path in _writing:
            continue
        with contextlib.suppress(OSError):
            # A restarted container gives the same ids again, our own among them.
            if int(pid) == os.getpid() or not _alive(int(pid)) or time.time() - path.stat().st_mtime > LEFT_S:
                path.unlink()
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, DamagedError):
            side = read_sidecar(path)
            if sidecar_of(folder / side.file) == path and not (folder / side.file).exists():
                path.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _reads_back(fd: int, out: HashingFile, full: bool) -> bool:
    crcs = out.end()
    if os.fstat(fd).st_size != out.size:
        return False
    if hasattr(os, "posix_fadvise"):
        # Clean pages after the fsync are let go, so that what is read now comes from the disk, where it does as it is asked.
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    n = len(crcs)
    # An own generator: the process's belongs to the training.
    some = range(n) if full or n <= SAMPLES + 2 else {0, n - 1, *random.Random(out.size).sample(range(n), SAMPLES)}
    for i in some:
        length = min(BLOCK, out.size - i * BLOCK)
        data = os.pread(fd, length, i * BLOCK)
        if len(data) != length or zlib.crc32(data) != crcs[i]:
            return False
    return True
