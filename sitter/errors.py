"""The errors a person may see, as a tree. ``main`` prints the text of any SitterError as one sentence and exits with ``exit_code``.

SitterError          1   something could not be done
├── UsageError       2   asked in the wrong way
│   └── ConfigError  2   sitter.toml, or a rule file
├── RunError         1   not a run directory, none, newer, several
├── DaemonError      1   not there, does not answer, another one holds the run
├── LaunchError      1   the training could not be started, or ended at once
└── StoreError       1   the history cannot be read or written
    └── DamagedError 1   its file does not hold what SQLite or we have written
"""

from types import TracebackType


class SitterError(Exception):
    """Says what was expected, what was found, and what to do."""

    exit_code = 1


class UsageError(SitterError):
    """The question itself was wrong; nothing was tried."""

    exit_code = 2


class ConfigError(UsageError):
    """A settings file does not parse, or names what is not there."""


class Mistakes:
    """All that is wrong in a settings file, not the first alone: ``with mistakes: …`` notes a ConfigError and goes on behind it."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def note(self, error: ConfigError) -> None:
        """One more; the same sentence stands once."""
        if str(error) not in map(str, self.found):
            self.found.append(error)

    def __enter__(self) -> None:
        """What is done in it may raise a ConfigError."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        if not isinstance(error, ConfigError):
            return False
        self.note(error)
        return True

    def raise_first(self) -> None:
        """Raises the first ConfigError, if any: for who wants to use the file, rather than to mend it."""
        if self.found:
            raise self.found[0]


class RunError(SitterError):
    """No such run, not a run directory, one from a newer version, or more than one where one is meant."""


class DaemonError(SitterError):
    """The daemon is not there, does not answer, or another one has the run."""


class StoreError(SitterError):
    """The history is from a newer version, damaged, or cannot be written."""


class DamagedError(StoreError):
    """The history's file is damaged for good. A daemon moves it aside and begins a new one; nobody else touches it."""


class LaunchError(SitterError):
    """The training command is not there, cannot be executed, or ended at once."""


class TakenError(LaunchError):
    """A training lives in this run already, or somebody else is just starting it."""
