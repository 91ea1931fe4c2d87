"""Everything that is shown, in visible lists: a new panel is one file and one line here."""

from sitter.tui.chart_panel import ChartPanel
from sitter.tui.checkpoints_panel import CheckpointsPanel
from sitter.tui.footer import Footer
from sitter.tui.glance_panel import GlancePanel
from sitter.tui.gpu_panel import GpuPanel
from sitter.tui.header import Header
from sitter.tui.help_screen import HelpScreen
from sitter.tui.logbook_panel import LogbookPanel
from sitter.tui.panel import Panel
from sitter.tui.prompt import Prompt
from sitter.tui.rules_panel import RulesPanel
from sitter.tui.signals_view import SignalsView
from sitter.tui.since_panel import SincePanel
from sitter.tui.strip import Strip
from sitter.tui.train_log_panel import TrainLogPanel

PANELS: list[type[Panel]] = [GpuPanel, RulesPanel, CheckpointsPanel, LogbookPanel, TrainLogPanel]
"""Under keys 1 to 5, in their order."""

PARTS: dict[str, type[Panel]] = {
    "header": Header, "strip": Strip, "since": SincePanel, "chart": ChartPanel, "glance": GlancePanel, "signals": SignalsView,
    "help": HelpScreen, "prompt": Prompt, "footer": Footer,
}  # fmt: skip
"""What has a place of its own, by the name that the plan gives it."""


def panel_id(kind: type[Panel]) -> str:
    """``TrainLogPanel`` → ``train_log``: how the plan calls it."""
    name = kind.__name__.removesuffix("Panel")
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))
