"""What each kind of notifier really sends, and what it says when that fails. No secret may stand in any of it."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from sitter.actions.notify import post as post_module
from sitter.actions.notify.base import Notice, NotifyError
from sitter.actions.notify.catalogue import KINDS, make
from sitter.actions.notify.redact import Secrets
from sitter.clock import iso
from sitter.config import NotifierConfig
from sitter.errors import ConfigError

Server = Any
NOTICE = Notice(event="crashed", text="loss 11 × its usual → NaN <b> & @everyone", run="1120-char-lm", time=1_700_000_000.0)
SECRET = "T00000000/B11111111/xoxbSECRETtoken42"


def config(kind: str, **fields: Any) -> NotifierConfig:
    return NotifierConfig(name="phone", kind=kind, **fields)


def test_webhook(server: Server) -> None:
    assert make(config("webhook", url=server.url("/ok/x?key=1"))).send(NOTICE) == "HTTP 200"
    (got,) = server.got
    assert got["path"] == "/ok/x?key=1"
    assert got["headers"]["Content-Type"] == "application/json; charset=utf-8"
    assert got["body"]["host"]
    del got["body"]["host"]
    assert got["body"] == {"run": NOTICE.run, "event": "crashed", "text": NOTICE.text, "time": iso(NOTICE.time)}


def test_slack_escapes_what_slack_would_read_as_markup(server: Server) -> None:
    make(config("slack", url=server.url("/ok"))).send(NOTICE)
    assert server.got[0]["body"] == {"text": "1120-char-lm: loss 11 × its usual → NaN &lt;b&gt; &amp; @everyone"}


def test_discord_rings_nobody_and_fits(server: Server) -> None:
    long = Notice(event="x", text="y" * 5000, run="r", time=0.0)
    make(config("discord", url=server.url("/ok"))).send(long)
    body = server.got[0]["body"]
    assert body["allowed_mentions"] == {"parse": []}
    assert len(body["content"]) == 2000
    assert body["content"].startswith("r: yyy")


def test_ntfy_posts_json_to_the_servers_root(server: Server) -> None:
    make(config("ntfy", url=server.url("/ok/my-topic"))).send(NOTICE)
    (got,) = server.got
    assert got["path"] == "/ok/"
    assert got["body"] == {
        "topic": "my-topic", "title": NOTICE.run, "message": NOTICE.text, "priority": 5, "tags": ["rotating_light"],
    }  # fmt: skip


def test_a_user_in_the_address_becomes_a_header(server: Server) -> None:
    make(config("webhook", url=server.url("/ok", user="me:p%40ss@"))).send(NOTICE)
    assert server.got[0]["headers"]["Authorization"] == "Basic bWU6cEBzcw=="


def test_the_run_is_not_named_twice() -> None:
    assert Notice(event="x", text="lm: crashed", run="lm", time=0.0).line == "lm: crashed"


def failing(kind: str, url: str) -> NotifyError:
    with pytest.raises(NotifyError) as told:
        make(config(kind, url=url)).send(NOTICE)
    text = str(told.value)
    assert "\n" not in text
    for part in (SECRET, *SECRET.split("/"), "hunter22"):
        assert part not in text
    assert told.value.__cause__ is None  # a traceback would show the address
    assert told.value.__suppress_context__
    return told.value


@pytest.mark.parametrize(("code", "again"), [(500, True), (503, True), (429, True), (400, False), (404, False)])
def test_an_error_of_the_server_is_said_without_the_address(server: Server, code: int, again: bool) -> None:
    """The server repeats the path in its answer, as many do."""
    error = failing("slack", server.url(f"/{code}/{SECRET}?token=hunter22"))
    assert str(error).startswith(f"127.0.0.1 answered HTTP {code} ")
    assert "you posted to" in str(error)
    assert error.again is again


def test_a_redirect_is_not_followed_and_not_called_success(server: Server) -> None:
    error = failing("webhook", server.url(f"/302/{SECRET}"))
    assert str(error) == "127.0.0.1 sends elsewhere (HTTP 302); give the final address as url"
    assert len(server.got) == 1


def test_a_server_that_hangs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_module, "TIMEOUT_S", 0.2)
    error = failing("webhook", server.url(f"/hang/{SECRET}"))
    assert "did not answer within" in str(error)
    assert error.again


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = failing("webhook", f"http://me:hunter22@127.0.0.1:{port}/{SECRET}")
    assert "could not be reached: [Errno 111] Connection refused" in str(error)
    assert error.again


def test_a_server_that_speaks_something_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as one:
                one.recv(65536)
                one.sendall(f"SSH-2.0-{SECRET}\r\n\r\n".encode())
                one.shutdown(socket.SHUT_WR)
                while one.recv(65536):  # closed with something unread, it would be reset
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        error = failing("webhook", f"http://127.0.0.1:{listening.getsockname()[1]}/{SECRET}")
        thread.join()
    assert "was not understood: BadStatusLine" in str(error)


def test_an_address_with_a_blank_in_it(server: Server) -> None:
    assert "was not understood" in str(failing("webhook", server.url(f"/ok/{SECRET} x")))


@pytest.mark.parametrize("url", ["", "my-topic", "ftp://host/secretpart", "http://", "http://[::1/secretpart", "http://h:port/secretpart"])
@pytest.mark.parametrize("kind", ["webhook", "ntfy", "slack", "discord"])
def test_an_address_that_is_none_is_refused_at_once(kind: str, url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[notify\.phone\]: url is no address") as told:
        make(config(kind, url=url))
    assert "secretpart" not in str(told.value)


def test_what_else_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"has no topic; expected such as https://ntfy\.sh/my-topic"):
        make(config("ntfy", url="https://ntfy.sh/"))
    with pytest.raises(ConfigError, match="needs command"):
        make(config("command", command="  "))
    with pytest.raises(ConfigError, match=r"\[notify.phone\] has no kind 'slak'; did you mean slack\?"):
        make(config("slak"))
    assert set(KINDS) == {"webhook", "ntfy", "slack", "discord", "command"}


def test_command_gets_text_and_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert make(config("command", command=f'cat > {out}; echo "$SITTER_EVENT $SITTER_RUN" >> {out}')).send(NOTICE) == "exit code 0"
    assert out.read_text() == f"{NOTICE.text}\ncrashed 1120-char-lm\n"


def test_a_command_that_reads_nothing_of_a_long_text_is_fine() -> None:
    long = Notice(event="x", text="y" * 1_000_000, run="r", time=0.0)
    assert make(config("command", command="true")).send(long) == "exit code 0"


def test_a_command_that_leaves_something_behind_does_not_keep_us(tmp_path: Path) -> None:
    """A grandchild that holds the output open is no reason to wait."""
    pid = tmp_path / "pid"
    assert make(config("command", command=f"sleep 60 & echo $! > {pid}")).send(NOTICE) == "exit code 0"
    os.kill(int(pid.read_text()), 9)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("no-such-command-here", "ended with exit code 127: "),
        ("echo one >&2; echo two >&2; exit 3", "ended with exit code 3: two"),
        ("kill -9 $$", "ended with signal 9"),
        ("curl_like() { echo \"could not resolve $1\" >&2; exit 6; }; curl_like https://hooks.example.com/" + SECRET,
         "exit code 6: could not resolve https://hooks.example.com/…"),
    ],
)  # fmt: skip
def test_a_command_that_fails_says_its_last_words(command: str, text: str) -> None:
    with pytest.raises(NotifyError) as told:
        make(config("command", command=command)).send(NOTICE)
    assert text in str(told.value)
    assert "SECRET" not in str(told.value)
    assert not told.value.again


def test_a_command_that_hangs_is_killed_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Any) -> None:
    real, pid = subprocess.Popen.wait, tmp_path / "pid"

    def impatient(process: Any, timeout: float | None = None) -> int:
        if timeout is None:
            return real(process)
        until(lambda: pid.exists() and pid.read_text())  # there is something to be killed
        return real(process, 0.05)

    monkeypatch.setattr(subprocess.Popen, "wait", impatient)
    with pytest.raises(NotifyError, match="had not ended after"):
        make(config("command", command=f"sleep 600 & echo $! > {pid}; wait")).send(NOTICE)
    child = int(pid.read_text())

    def gone() -> bool:
        try:
            return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    until(gone)


def test_redaction() -> None:
    hidden = Secrets(f"https://me:hunter22@hooks.example.com/{SECRET}?a=%20blank%20key")
    for text in (f"at /{SECRET}", "user me:hunter22", "blank key", "%20blank%20key", json.dumps({"u": SECRET.split("/")[2]})):
        assert not any(p in hidden.hide(text) for p in ("xoxb", "hunter22", "blank key", "%20blank"))
    assert hidden.hide("see https://other.org/path/x?y now") == "see https://other.org/… now"
    assert hidden.hide("nothing to hide here") == "nothing to hide here"
