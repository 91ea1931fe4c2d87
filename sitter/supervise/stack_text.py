"""Reads stacks that Python's traceback, faulthandler or py-spy have written, and finds the line that the script stands on."""

import re
import site
import sys
import sysconfig
from pathlib import Path

import msgspec


class Frame(msgspec.Struct, frozen=True):
    """One call."""

    file: str
    line: int
    function: str


class Thread(msgspec.Struct, frozen=True):
    """Innermost frame first."""

    name: str
    frames: list[Frame]


_TRACEBACK = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+),? in (?P<function>.+)$')
_PY_SPY = re.compile(r"^    (?P<function>\S.*) \((?P<file>.+):(?P<line>\d+)\)$")
_HEAD = re.compile(r"^(?:Thread (?P<name>.+?)(?: \(most recent call first\))?:?|Current thread (?P<now>.+?) \(most recent call first\):)$")

OURS = ("/sitter_agent/", "/sitter_wire/")
"""Frames of the agent are nobody's cause: the generator that the script's ``for`` turns."""
DRILL = "/sitter_agent/drill.py"
"""But for a hang that was planted on purpose."""
MOST = 6
"""Frames that are told by name for the diagnosis."""


def parse(text: str) -> list[Thread]:
    """The threads of a dump of any of the three kinds; what is not understood is passed over."""
    found: list[tuple[str, list[Frame], bool]] = []
    for line in text.splitlines():
        frame = _TRACEBACK.match(line) or _PY_SPY.match(line)
        if frame is not None and found:
            found[-1][1].append(Frame(frame["file"], int(frame["line"]), frame["function"]))
            continue
        head = _HEAD.match(line)
        if head is not None:
            # traceback prints the innermost last, faulthandler and py-spy first
            found.append((head["name"] or head["now"], [], "most recent call last" in line))
    return [Thread(name, frames[::-1] if last else frames) for name, frames, last in found if frames]


def main_thread(threads: list[Thread]) -> Thread | None:
    """The one whose outermost frame is a module's, or is called MainThread; faulthandler prints it last and gives no names."""
    named = [t for t in threads if "MainThread" in t.name]
    modules = [t for t in threads if t.frames[-1].function == "<module>"]
    return next(iter(named or modules or threads[-1:]), None)


def where(threads: list[Thread], began: float | None = None, *, quote: bool = True) -> str:
    """The innermost line of the script, and the library call it waits in: ``train.py:41 in evaluate: `x = q.get()`, inside
    threading.py:324 wait``. Empty where there are no frames. ``began``: unix seconds of the session's start: a file that was changed
    since is not quoted, since the line may be another one by now. ``quote`` False: no file is read."""
    main = main_thread(threads)
    if main is None:
        return ""
    frames = [f for f in main.frames if f.file.endswith(DRILL) or not any(ours in f.file for ours in OURS)] or main.frames
    own = next((f for f in frames if not is_library(f.file)), frames[0])
    text = f"{short(own.file)}:{own.line} in {own.function}"
    quoted = _line(own, began) if quote else ""
    text += f": `{quoted}`" if quoted else ""
    inner = frames[0]
    return text if inner is own else f"{text}, inside {short(inner.file)}:{inner.line} {inner.function}"


def innermost(threads: list[Thread]) -> list[str]:
    """``file:function`` of the main thread's innermost calls."""
    main = main_thread(threads)
    return [f"{f.file}:{f.function}" for f in main.frames[:MOST]] if main is not None else []


def is_library(file: str) -> bool:
    """Not the script's own: installed, of the standard library, or of no file at all."""
    if file.startswith("<") or "site-packages" in file or "dist-packages" in file:
        return True
    return any(file.startswith(f"{place}/") for place in _LIBRARIES) or bool(re.search(r"/lib(64)?/python3\.\d+/", file))


def short(file: str) -> str:
    """The last two parts of a library's path, the name of a script's."""
    path = Path(file)
    return str(Path(*path.parts[-2:])) if is_library(file) and not file.startswith("<") else path.name


def _line(frame: Frame, began: float | None) -> str:
    path = Path(frame.file)
    try:
        if began is not None and path.stat().st_mtime > began:
            return ""
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[frame.line - 1].strip()[:80]
    except (OSError, IndexError):
        return ""


_LIBRARIES = tuple(
    {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sys.base_prefix + "/lib", *site.getsitepackages()}
)
