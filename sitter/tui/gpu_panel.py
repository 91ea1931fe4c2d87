"""The GPUs and the machine around them."""

from collections.abc import Sequence

from sitter.model import GpuNow, HostNow
from sitter.tui import formats
from sitter.tui.lines import Line, Span, pack, plain
from sitter.tui.panel import Panel
from sitter.tui.view import View

HISTORY = 40
"""Readings kept for the little bar chart, one per answer of the daemon."""


class GpuPanel(Panel):
    """Utilisation, memory, temperature, power, what holds the clock down; CPU, memory, disk."""

    TITLE = "GPU and host"
    HELP = (
        "Per GPU: utilisation with its last readings, memory, temperature, power against its limit, clock, and in yellow "
        "what throttles it. Below: CPU, memory and disk as the training may use them (limits of the container, not of the"
        " host)."
    )
    SIZE = 6

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """A line a GPU, one for the host."""
        status = view.status
        if status is None:
            return [[("–", "dim")]]
        out: list[Line] = []
        for gpu in status.gpus:
            out.extend(gpu_lines(gpu, view.gpu_history.get(gpu.uuid, []), width))
        if not status.gpus:
            note = status.host.gpu_note if status.host and status.host.gpu_note else "no GPU"
            out.append([(plain(note), "dim")])
        return [*out, *_host(status.host, width)]


def gpu_lines(gpu: GpuNow, history: Sequence[float | None], width: int) -> list[Line]:
    """One line; what matters least goes where there is little room."""
    name: Line = [(f"GPU{gpu.index} ", "strong"), (plain(_short(gpu.name)), "dim")]
    if gpu.used_by_run:
        name.append((" ●", "good"))
    figures = _figures(gpu, history)
    if gpu.note:
        figures.insert(0, (0, [(plain(gpu.note), "bad")]))
    return [pack([(0, name), *figures], width)]


def _figures(gpu: GpuNow, history: Sequence[float | None]) -> list[tuple[int, Line]]:
    util = formats.UNKNOWN if gpu.util is None else f"{gpu.util:.0f} %"
    idle = gpu.util is not None and gpu.util < 30
    pieces: list[tuple[int, Line]] = [(1, [("util ", "dim"), (util, "warn" if idle else "good" if gpu.util is not None else "dim")])]
    if any(v is not None for v in history):
        pieces.append((6, [(formats.spark(list(history)[-12:], 100.0), "bar")]))
    full = gpu.mem_used is not None and gpu.mem_total and gpu.mem_used / gpu.mem_total > 0.95
    pieces.append((2, [("mem ", "dim"), (_of(gpu.mem_used, gpu.mem_total), "warn" if full else "")]))
    temp = formats.UNKNOWN if gpu.temp is None else f"{gpu.temp:.0f} °C"
    pieces.append((3, [(temp, "warn" if gpu.temp is not None and gpu.temp >= 85 else "")]))
    power = formats.UNKNOWN + " W" if gpu.power is None else f"{gpu.power:.0f} W"
    pieces.append((4, [(power, ""), (f" / {gpu.power_limit:.0f}" if gpu.power_limit else "", "dim")]))
    if gpu.throttle:
        pieces.append((3, [(plain(", ".join(gpu.throttle)), "warn")]))
    if gpu.sm_clock is not None:
        pieces.append((7, [(f"{gpu.sm_clock:.0f} MHz", "dim")]))
    return pieces


def _short(name: str) -> str:
    return name.removeprefix("NVIDIA ").removeprefix("GeForce ").split(" ")[0] if name.startswith("NVIDIA ") else name


def _of(used: int | None, total: int | None) -> str:
    if used is None and total is None:
        return formats.UNKNOWN
    if used is not None and total is not None and total >= 1 << 30:
        x = used / (1 << 30)
        return f"{x:.0f}/{total / (1 << 30):.0f} G" if x >= 10 else f"{x:.1f}/{total / (1 << 30):.0f} G"
    return f"{formats.giga(used)} of {formats.giga(total)}"


def _host(host: HostNow | None, width: int) -> list[Line]:
    if host is None:
        return [[("host –", "dim")]]
    cpu = formats.UNKNOWN if host.cpu is None else f"{host.cpu:.0f} %"
    low = host.disk_free is not None and host.disk_total and host.disk_free / host.disk_total < 0.05
    train = formats.UNKNOWN if host.train_cpu is None else f"{host.train_cpu:.0f} %"
    machine: list[tuple[int, Sequence[Span]]] = [
        (0, [("host ", "strong"), ("cpu ", "dim"), (cpu, "")]),
        (1, [("mem ", "dim"), (_of(host.mem_used, host.mem_total), "")]),
        (1, [("disk free ", "dim"), (formats.giga(host.disk_free), "warn" if low else ""),
             (f" of {formats.giga(host.disk_total)}", "dim")]),
        (2, [("training cpu ", "dim"), (train, ""), ("  mem ", "dim"), (formats.giga(host.train_rss), "")]),
    ]  # fmt: skip
    return [pack(machine, width)]
