"""``kind = "command"``: a command of the user's gets the text on stdin, and SITTER_EVENT and SITTER_RUN in its environment."""

import os
import signal
import subprocess
import tempfile

from sitter.actions.notify.base import TIMEOUT_S, Notice, NotifyError
from sitter.actions.notify.redact import Secrets
from sitter.config import NotifierConfig
from sitter.errors import ConfigError


class Command:
    """Run by ``/bin/sh`` in a group of its own, which is killed when it takes too long.

    Input and output are files: a pipe that a grandchild holds open would keep us waiting after the command has long ended.
    """

    def __init__(self, config: NotifierConfig) -> None:
        if not config.command.strip():
            raise ConfigError(f"[notify.{config.name}]: kind = \"command\" needs command = \"…\"")
        self._command, self._secrets = config.command, Secrets(config.command)

    def send(self, notice: Notice) -> str:
        """Raises NotifyError."""
        environment = {**os.environ, "SITTER_EVENT": notice.event, "SITTER_RUN": notice.run}
        with tempfile.TemporaryFile() as text, tempfile.TemporaryFile() as said:
            text.write(notice.text.encode() + b"\n")
            text.seek(0)
            try:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command], stdin=text, stdout=subprocess.DEVNULL, stderr=said, env=environment,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as e:
                raise NotifyError(f"the command could not be started: {e.strerror}") from None
            try:
                code = process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its own group: it leads a new session, and is not reaped yet
                process.wait()
                raise NotifyError(f"the command had not ended after {TIMEOUT_S:.0f} s and was killed") from None
            if code == 0:
                return "exit code 0"
            said.seek(0)
            lines = said.read(65536).decode(errors="replace").strip().splitlines()
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise NotifyError(self._secrets.hide(f"the command ended with {how}" + (f": {lines[-1][:300]}" if lines else "")))
