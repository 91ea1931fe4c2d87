"""Numbers and times as a person reads them. Unknown is ``–``, never 0."""

import datetime
import math

UNKNOWN = "–"


def count(n: float | None) -> str:
    """``12,340``."""
    return UNKNOWN if n is None or not math.isfinite(n) else f"{round(n):,}"


def short_count(n: float | None) -> str:
    """``980``, ``12.3k``, ``4.1M``."""
    if n is None or not math.isfinite(n):
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= size:
            return f"{n / size:.1f}".rstrip("0").rstrip(".") + unit
    return f"{n:.0f}"


def value(x: float | None, digits: int = 4) -> str:
    """A signal's value: ``2.857``, ``0.0312``, ``3.1e-05``, ``nan``, ``inf``, or ``–``."""
    if x is None:
        return UNKNOWN
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    if x == 0:
        return "0"
    if 1e-3 <= abs(x) < 10**digits:
        before = math.floor(math.log10(abs(x))) + 1
        return f"{x:.{max(0, digits - before if before > 0 else digits - 1 - before)}f}"
    if abs(x) >= 10**digits and abs(x) < 1e6:
        return f"{x:,.0f}"
    return f"{x:.{digits - 2}e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def rate(x: float | None) -> str:
    """A learning rate and its like: ``3.0e-4``; values from 0.01 on as they are."""
    if x is None or not math.isfinite(x) or x == 0:
        return value(x)
    if abs(x) >= 0.01:
        return f"{x:.4g}"
    mantissa, exponent = f"{x:.2e}".split("e")
    return f"{mantissa.removesuffix('0')}e{int(exponent)}"


def scale(x: float | None) -> str:
    """A knob's scale: ``1``, ``0.5``, ``0.09``."""
    return UNKNOWN if x is None else f"{x:.3g}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as ``62 %``."""
    return UNKNOWN if share is None or not math.isfinite(share) else f"{share * 100:.{digits}f} %"


def giga(n: float | None) -> str:
    """Bytes as ``58 G``, ``1.4 G``, ``812 M``."""
    if n is None:
        return UNKNOWN
    for size, unit in ((1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if n >= size:
            x = n / size
            return f"{x:.0f} {unit}" if x >= 10 else f"{x:.1f} {unit}"
    return f"{n:.0f} B"


def clock_time(unix: float | None, now: float) -> str:
    """``14:10`` today, ``Thu 14:10`` within the week, else ``28 Nov 14:10``, in the viewer's zone."""
    return _time(unix, now, "")


def end_time(unix: float | None, now: float) -> str:
    """The same with its zone: ``Fri 14:10 CET``."""
    return _time(unix, now, " %Z")


def _time(unix: float | None, now: float, zone: str) -> str:
    if unix is None or not math.isfinite(unix):
        return UNKNOWN
    try:
        then = datetime.datetime.fromtimestamp(unix).astimezone()
        today = datetime.datetime.fromtimestamp(now).astimezone()
    except (OverflowError, OSError, ValueError):
        return UNKNOWN
    if then.date() == today.date() and not zone:
        return then.strftime("%H:%M")
    if abs(unix - now) < 6 * 86400:
        return then.strftime(f"%a %H:%M{zone}")
    if abs(unix - now) < 300 * 86400:
        return then.strftime(f"%d %b %H:%M{zone}")
    return then.strftime("%d %b %Y")


def countdown(seconds: float) -> str:
    """``0:42``, ``12:03``, ``1:02:03``; never below zero."""
    s = max(0, math.ceil(seconds))
    h, rest = divmod(s, 3600)
    return f"{h}:{rest // 60:02d}:{rest % 60:02d}" if h else f"{rest // 60}:{rest % 60:02d}"


def bar(share: float | None, cells: int) -> str:
    """A progress bar in eighths of a cell; unknown is a dotted one."""
    if cells <= 0:
        return ""
    if share is None or not math.isfinite(share):
        return "·" * cells
    eighths = round(min(1.0, max(0.0, share)) * cells * 8)
    full, part = divmod(eighths, 8)
    body = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
    return body + "░" * (cells - len(body))


def spark(values: list[float | None], top: float | None = None) -> str:
    """A tiny bar chart, a character per value; unknown is a blank."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return " " * len(values)
    high = top if top else max(known) or 1.0
    return "".join(
        " " if v is None or not math.isfinite(v) else "▁▂▃▄▅▆▇█"[min(7, max(0, int(v / high * 7.999)))] for v in values
    )
