"""Addresses and commands of notifiers carry tokens; nothing of them may stand in a log, an error or the logbook."""

import re
from urllib.parse import unquote_plus, urlsplit

_URL = re.compile(r"(https?://)(?:[^/\s'\"@]*@)?([^/\s'\"?#]*)[^\s'\"]*", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_\-.]{16,}")
_SHORTEST = 4


class Secrets:
    """Knows what to leave out. Made of the URL, or the command, as the user wrote it."""

    def __init__(self, *texts: str) -> None:
        found: set[str] = set()
        for text in texts:
            for url in [text, *(m.group(0) for m in _URL.finditer(text))]:
                found |= _of_url(url)
            found |= set(_TOKEN.findall(_URL.sub("", text)))
        self._hidden = sorted((s for s in found if len(s) >= _SHORTEST), key=len, reverse=True)

    def hide(self, text: str) -> str:
        """The text on one line, with every address cut down to its host and every token gone."""
        text = _URL.sub(r"\1\2/…", text)
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return " ".join(text.split())


def _of_url(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    if not parts.scheme.startswith("http"):
        return set()
    query = [pair.partition("=")[2] for pair in parts.query.split("&")]
    who = [parts.username or "", parts.password or ""]
    raw = [parts.path, *parts.path.split("/"), parts.query, *query, parts.fragment, *who]
    return {v.strip() for r in raw for v in (r, unquote_plus(r))}
