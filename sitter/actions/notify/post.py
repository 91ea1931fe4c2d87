"""Posting JSON over HTTP, with a time-out, no redirects, and errors that show nothing of the address but its host."""

import base64
import http.client
import json
import urllib.error
import urllib.request
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from sitter.actions.notify.base import TIMEOUT_S, NotifyError
from sitter.actions.notify.redact import Secrets
from sitter.errors import ConfigError

_TOO_MANY = 429


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib follows a redirected POST with a GET, which delivers nothing and looks like success."""

    def redirect_request(self, *_: object) -> None:
        """None makes the redirect an error."""


class Target:
    """A place to post to. Raises ConfigError, naming the notifier, where the URL is none."""

    def __init__(self, name: str, url: str) -> None:
        self.secrets = Secrets(url)
        try:
            parts = urlsplit(url)
            self.host = parts.hostname or ""
            port = parts.port
        except ValueError:
            parts, self.host, port = SplitResult("", "", "", "", ""), "", None
        if parts.scheme not in ("http", "https") or not self.host:
            raise ConfigError(f"[notify.{name}]: url is no address; expected one that begins with http:// or https://")
        where = f"[{self.host}]" if ":" in self.host else self.host
        self.parts = parts._replace(netloc=where if port is None else f"{where}:{port}", fragment="")
        self._headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "sitter"}
        if parts.username is not None:  # urllib would take it for a part of the host's name
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()

    def post(self, payload: object, *, path: str | None = None) -> str:
        """``HTTP 200``, or whatever success was; ``path`` stands in place of the URL's own. Raises NotifyError."""
        url = urlunsplit(self.parts if path is None else self.parts._replace(path=path, query=""))
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            request = urllib.request.Request(url, json.dumps(payload).encode(), self._headers, method="POST")
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                return f"HTTP {answer.status}"
        except urllib.error.HTTPError as e:
            with e:
                raise self._refused(e) from None
        except TimeoutError:
            raise NotifyError(f"{self.host} did not answer within {TIMEOUT_S:.0f} s", again=True) from None
        except urllib.error.URLError as e:
            if isinstance(e.reason, TimeoutError):
                raise NotifyError(f"{self.host} could not be reached within {TIMEOUT_S:.0f} s", again=True) from None
            raise NotifyError(self.secrets.hide(f"{self.host} could not be reached: {e.reason}"), again=True) from None
        except (OSError, http.client.HTTPException, ValueError) as e:
            said = self.secrets.hide(f"{self.host} was not understood: {type(e).__name__}: {e}")
            raise NotifyError(said, again=isinstance(e, OSError)) from None

    def _refused(self, e: urllib.error.HTTPError) -> NotifyError:
        if 300 <= e.code < 400:
            return NotifyError(f"{self.host} sends elsewhere (HTTP {e.code}); give the final address as url")
        try:
            body = e.read(300).decode(errors="replace").strip()
        except (OSError, http.client.HTTPException):
            body = ""
        said = self.secrets.hide(f"{self.host} answered HTTP {e.code} {e.reason}" + (f": {body}" if body else ""))
        return NotifyError(said, again=e.code >= 500 or e.code == _TOO_MANY)
