"""What a small screen shows under the chart: the GPU in a line, and what happened last."""

from sitter.tui.gpu_panel import gpu_lines
from sitter.tui.lines import Line, plain
from sitter.tui.logbook_panel import entry_lines
from sitter.tui.panel import Panel
from sitter.tui.view import View


class GlancePanel(Panel):
    """The GPU in a line and the newest of the logbook; 1-5 show the panels in full."""

    HELP = "The GPU in a line and the newest entries of the logbook; 1 to 5 show the panels themselves, Esc comes back here."

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """Exactly what fits."""
        status = view.status
        out: list[Line] = []
        if status is not None:
            for gpu in status.gpus[:2]:
                out.extend(gpu_lines(gpu, view.gpu_history.get(gpu.uuid, []), width))
            if not status.gpus:
                note = status.host.gpu_note if status.host and status.host.gpu_note else "no GPU"
                out.append([(plain(note), "dim")])
        room = max(0, height - len(out))
        newest = view.entries[-room:][::-1] if room else []
        for entry in newest:
            out.extend(entry_lines(entry, view.now, width))
        if not newest and room and status is not None:
            out.append([("nothing has happened yet", "dim")])
        return out[:height]
