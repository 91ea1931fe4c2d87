"""Where things lie: the runtime directory with its sockets, and the files of a run directory."""

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Bytes that ``sockaddr_un`` holds on Linux, without the final zero."""
SMALL = 1 << 20
"""Bytes; no file that says something of a run (run.toml, exit.json, a lock, a sidecar) is ever larger."""


class PlaceError(OSError):
    """A directory is not one we may use. The text says what was expected, found, and what to do."""


def runtime_dir() -> Path:
    """``/tmp/sitter-<uid>`` or ``$SITTER_RUNTIME_DIR``, created 0700.

    Not ``$XDG_RUNTIME_DIR``: it dies with the last login and differs under cron, slurm and sudo. Raises PlaceError where it is a link, no
    directory, somebody else's, or open to others.
    """
    path = Path(os.environ.get("SITTER_RUNTIME_DIR") or f"/tmp/sitter-{os.getuid()}")
    try:
        path.mkdir(mode=0o700, parents=False, exist_ok=True)
    except FileExistsError:
        pass  # a link or a file: told apart below
    except OSError as e:
        raise PlaceError(
            f"cannot make the runtime directory {path}: {e.strerror}; set SITTER_RUNTIME_DIR elsewhere"
        ) from e
    check_owned_dir(path)
    return path


def check_owned_dir(path: Path) -> None:
    """Raises PlaceError unless ``path`` is a real directory, ours, mode 0700."""
    found = path.lstat()
    hint = "; remove it, or set SITTER_RUNTIME_DIR to a directory of your own"
    if stat.S_ISLNK(found.st_mode):
        raise PlaceError(f"runtime directory {path} is a symbolic link, expected a real directory{hint}")
    if not stat.S_ISDIR(found.st_mode):
        raise PlaceError(f"runtime directory {path} is not a directory{hint}")
    if found.st_uid != os.getuid():
        raise PlaceError(f"runtime directory {path} belongs to user {found.st_uid}, expected {os.getuid()}{hint}")
    if found.st_mode & 0o077:
        raise PlaceError(
            f"runtime directory {path} is open to others (mode {found.st_mode & 0o777:03o}), expected 700{hint}"
        )


def check_own_run(run: "RunDir") -> None:
    """Raises PlaceError where the run directory is another user's: its run.toml and sitter.toml name commands, which we would execute.

    Some file systems give every file to one user, whoever made it (CIFS, a squashed NFS, WSL's drives): there a trial file is his, too.
    """
    theirs = run.path.stat().st_uid
    if theirs == os.getuid():
        return
    try:
        with tempfile.TemporaryFile(dir=run.path) as trial:
            if os.fstat(trial.fileno()).st_uid == theirs:
                return
    except OSError:
        pass  # where we cannot even write, it is certainly not ours
    raise PlaceError(
        f"run directory {run.path} belongs to user {theirs}, expected {os.getuid()}: work as that user, or copy it"
    )


def check_lock_file(path: Path) -> None:
    """Raises PlaceError unless ``path`` is missing, a regular file, or the link that ``sitter_wire.local`` makes: into a directory of ours
    that others cannot enter. What any other link points to must not be emptied by us."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    hint = "remove it, and start again"
    if stat.S_ISLNK(found.st_mode):
        target = path.resolve()
        try:
            check_owned_dir(target.parent.parent)
        except OSError:
            ours = False
        else:
            ours = target.name == path.name
        if not ours:
            raise PlaceError(f"lock file {path} is a symbolic link to {target}, expected a file: {hint}")
        found = target.lstat() if target.exists() else found
        if stat.S_ISLNK(found.st_mode):
            return
    if not stat.S_ISREG(found.st_mode):
        raise PlaceError(f"lock file {path} is not a regular file: {hint}")


def small_file(path: Path, most: int = SMALL) -> bytes:
    """What a file holds that can only be small. Raises OSError, also for one that is too large or no regular file: a pipe in its place must
    not hang us, nor a huge one fill the memory."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > most:
            raise OSError(errno.EFBIG, f"{found.st_size} bytes, at most {most} expected", str(path))
        data = b""
        while len(data) <= most and (more := os.read(fd, most + 1 - len(data))):
            data += more
        return data
    finally:
        os.close(fd)


def _folder(run: Path) -> str:
    """Of a run directory in the runtime directory."""
    return hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]


class Endpoints:
    """The three sockets of one run: ``data`` (agent's PUSH → PULL), ``agent`` (DEALER ⇄ ROUTER), ``client`` (DEALER ⇄ ROUTER)."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is the run's own folder in the runtime directory. Raises PlaceError where the paths grow too long."""
        self.directory = directory
        self.data, self.agent, self.client = (directory / name for name in ("data", "agent", "client"))
        longest = len(os.fsencode(self.client))
        if longest > MAX_SOCKET_PATH:
            raise PlaceError(
                f"socket path {self.client} has {longest} bytes, at most {MAX_SOCKET_PATH} fit; set SITTER_RUNTIME_DIR to a shorter one"
            )

    @classmethod
    def of_run(cls, run: Path) -> "Endpoints":
        """The addresses that belong to a run directory: a short hash of its real path under the runtime directory."""
        return cls(runtime_dir() / _folder(run))

    @classmethod
    def recorded(cls, run: Path, told: str, *, used: bool) -> "Endpoints":
        """The addresses that run.toml tells of; the run directory's own where it tells of none, or of another's: a copied directory tells
        of the one it was copied from, whose daemon would be robbed of its clients. ``used``: somebody of this run listens or speaks there
        now, so that they count whatever the directory is called since. Raises PlaceError."""
        return cls(Path(told)) if told and (used or Path(told).name == _folder(run)) else cls.of_run(run)

    def create(self) -> None:
        """Make the run's folder (0700) if it is not there. Raises PlaceError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.check()

    def renew(self) -> None:
        """As ``create``, also where a cleaner of temporary files has taken the whole runtime directory. Raises OSError."""
        try:
            self.directory.parent.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:
            pass  # somebody's file or link: told apart by the check
        self.create()

    def check(self) -> None:
        """Raises PlaceError where the run's folder, or the one it lies in, is not ours alone; FileNotFoundError where it is not there.

        Both: whoever may write into the outer one can put another folder in the place of the inner one.
        """
        check_owned_dir(self.directory.parent)
        check_owned_dir(self.directory)

    @staticmethod
    def url(path: Path) -> str:
        """As ZeroMQ wants it."""
        return f"ipc://{path}"


class RunDir:
    """Names of everything in a run directory. Makes nothing by itself."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.run_toml = self.path / "run.toml"
        self.sitter_toml = self.path / "sitter.toml"
        self.history = self.path / "history.db"
        self.recorder = self.path / "recorder"
        self.train_log = self.path / "train.log"
        self.daemon_log = self.path / "daemon.log"
        self.exit_json = self.path / "exit.json"
        self.checkpoints = self.path / "checkpoints"
        self.reports = self.path / "reports"
        self.agent_lock = self.path / "agent.lock"
        self.daemon_lock = self.path / "daemon.lock"
        self.parent_lock = self.path / "parent.pid"
        self.resume_lock = self.path / "resume.lock"
        self.next_branch = self.path / "next_branch"
        self.unpause = self.path / "unpause"
        self.stop = self.path / "stop"

    def __fspath__(self) -> str:
        return str(self.path)
