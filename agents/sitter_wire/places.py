"""Where things lie: the runtime directory with its sockets, and the files of a run directory."""

import hashlib
import os
import stat
from pathlib import Path

MAX_SOCKET_PATH = 107
"""Bytes that ``sockaddr_un`` holds on Linux, without the final zero."""


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
        digest = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]
        return cls(runtime_dir() / digest)

    def create(self) -> None:
        """Make the run's folder (0700) if it is not there. Raises PlaceError."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
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
        self.next_branch = self.path / "next_branch"
        self.unpause = self.path / "unpause"
        self.stop = self.path / "stop"

    def __fspath__(self) -> str:
        return str(self.path)
