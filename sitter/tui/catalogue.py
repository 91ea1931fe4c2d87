"""The panels under keys 1 to 5, in their order: a new one is one file and one line here."""

from sitter.tui.checkpoints_panel import CheckpointsPanel
from sitter.tui.gpu_panel import GpuPanel
from sitter.tui.logbook_panel import LogbookPanel
from sitter.tui.panel import Panel
from sitter.tui.rules_panel import RulesPanel
from sitter.tui.train_log_panel import TrainLogPanel

PANELS: list[type[Panel]] = [GpuPanel, RulesPanel, CheckpointsPanel, LogbookPanel, TrainLogPanel]
