"""What the terminal shows: the panels in their places, kept up to date by what the threads tell. It owns nothing of the run."""

import asyncio
import locale
import os
import signal
from typing import ClassVar

from rich.terminal_theme import TerminalTheme
from textual import events
from textual.app import App as TextualApp
from textual.app import ComposeResult
from textual.message import Message

from sitter.clock import Clock, SystemClock
from sitter.model import Curve
from sitter.tui import command_line, messages, since_panel, strip, zoom
from sitter.tui.catalogue import PANELS, PARTS, panel_id
from sitter.tui.command_line import CommandLine
from sitter.tui.desk import Desk
from sitter.tui.gpu_panel import HISTORY
from sitter.tui.palette import Palette, palette
from sitter.tui.panel import Panel
from sitter.tui.plan import Wish, plan
from sitter.tui.poller import Poller, Reader, Wants
from sitter.tui.signals_view import columns
from sitter.tui.view import View
from sitter_wire import queries

KEEP_ENTRIES = 5000


class Frame(TextualApp[None]):
    """Everything that looks. ``App`` adds the keys.

    ``reader`` answers questions (see ``poller.Reader``), ``acting`` demands: a second one, so that looking goes on while a demand
    waits for its safe point (one that answers several questions at a time may be given for both). ``ref``: curves to draw dashed.
    ``since``: unix time of the operator's last look. ``ascii``: no characters beyond ASCII. ``light``: None asks the environment.
    """

    AUTO_FOCUS = ""
    ENABLE_COMMAND_PALETTE = False
    INLINE_PADDING = 0
    POLL_S: ClassVar[float] = 0.5
    FRAMES_PER_S: ClassVar[float] = 4
    CSS = "Screen { layers: base; overflow: hidden; }"
    def __init__(
        self, reader: Reader, *, run_name: str, ref: list[Curve] | None = None, since: float | None = None, ascii: bool = False,  # noqa: A002
        acting: Reader | None = None, clock: Clock | None = None, light: bool | None = None,
    ) -> None:  # fmt: skip
        colour = "NO_COLOR" not in os.environ  # Textual takes it out of the environment
        super().__init__(ansi_color=not colour)
        self._ansi_theme = super().ansi_theme
        self.animation_level = "none"
        self.title = f"sitter · {run_name}"
        self._colour = colour
        self._light = _is_light() if light is None else light
        self.look: Palette = palette(light=self._light, colour=colour)
        no_utf8 = "utf" not in (locale.getencoding() or "").lower()
        self.view = View(run_name=run_name, clock=clock or SystemClock(), ascii=ascii or no_utf8, ref=ref or [])
        self.body = "home"
        self.chosen: str | None = None
        self._acting = acting or reader
        self._generation = 0
        self._command = CommandLine("command")
        self._command_open = False
        self._panels: dict[str, Panel] = {}
        for number, kind in enumerate(PANELS, 1):
            panel = kind(panel_id(kind))
            panel.number = number
            self._panels[panel_id(kind)] = panel
        self._panels |= {name: part(name) for name, part in PARTS.items()}
        self._desk = Desk()
        self._dirty = False
        self._poller = Poller(reader, self._post, since=since, poll_s=self.POLL_S)

    @property
    def ansi_theme(self) -> TerminalTheme:
        """Textual asks for it with every line that it draws, and looks through its themes to answer. The screen has one."""
        return self._ansi_theme

    # the frame

    def compose(self) -> ComposeResult:
        """Everything is there from the start; the plan says what is seen."""
        yield self._desk

    def on_mount(self) -> None:
        """Place the widgets, listen for signals, begin to ask."""
        self._desk.mount(*self._panels.values(), self._command)
        self._paint_background()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self.exit)
            except (RuntimeError, ValueError, NotImplementedError):
                pass  # not in the main thread: then the signal is not ours to catch
        self.arrange()
        self.set_interval(1 / self.FRAMES_PER_S, self._tick)
        self._poller.start()

    def on_unmount(self) -> None:
        """Leave nothing behind."""
        self._poller.stop(timeout=0.5)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            try:
                loop.remove_signal_handler(number)
            except (RuntimeError, ValueError, NotImplementedError):
                pass  # none was set

    def on_resize(self, event: events.Resize) -> None:
        """Another size, another plan."""
        self.arrange()
        self._ask_anew()

    def _post(self, message: Message) -> None:
        try:
            self.post_message(message)
        except RuntimeError:
            pass  # the loop has ended: nobody is left to tell

    def _tick(self) -> None:
        if self._dirty:
            self.paint()
        else:  # countdowns run on
            self._fit_strip()
            self._panels["header"].show(self.view)
            self._panels["strip"].show(self.view)

    def arrange(self) -> None:
        """Work out the plan, and lay out anew where it is another one."""
        width, height = self.size
        rows = {name: self._rows_wanted(name) for name in map(panel_id, PANELS)}
        strip_rows = len(strip.lines(self.view, width))
        since_rows = len(since_panel.lines(self.view, width)) if self.view.since_shown else 0
        wish = Wish(self.body.split(":")[0], self.chosen, strip_rows, since_rows, self._command_open)
        boxes = plan(width, height, wish, rows)
        if boxes == self._desk.planned.boxes:
            return
        self._desk.planned.boxes = boxes
        for name, panel in self._panels.items():
            panel.display = name in boxes
        self._command.display = "command" in boxes
        # asked of a child: a widget's own request leaves its kept arrangement as it is, and only forgets its ancestors'
        self._panels["header"].refresh(layout=True)
        self._update_wants()

    def _rows_wanted(self, name: str) -> int:
        """Rows on a wide screen, title included; 0 = the rest."""
        status = self.view.status
        if name == "gpu" and status:
            return 2 + max(1, len(status.gpus))
        if name == "rules" and self.view.rules:
            return 1 + len(self.view.rules)
        if name == "checkpoints" and status:
            return min(11, 2 + max(1, len(status.checkpoints)))
        return self._panels[name].SIZE

    def paint(self) -> None:
        """Draw all that is seen; panels send only the rows that changed."""
        self._dirty = False
        self.arrange()
        for name in self._desk.planned.boxes:
            if name in self._panels:
                self._panels[name].show(self.view)

    def _fit_strip(self) -> None:
        box = self._desk.planned.boxes.get("strip")
        if box is not None and len(strip.lines(self.view, box.width)) != box.height:
            self.arrange()

    def _paint_background(self) -> None:
        self.look = palette(light=self._light, colour=self._colour)
        for widget in (self.screen, self._desk, *self._panels.values()):
            widget.styles.background = self.look.background
        style = self.look.style("input")
        self._command.styles.background = style.bgcolor.name if style.bgcolor else self.look.background
        self._command.styles.color = style.color.name if style.color else "ansi_default"

    # what is asked of the daemon

    def _update_wants(self) -> None:
        boxes = self._desk.planned.boxes
        chart, multiples = None, None
        if "chart" in boxes:
            signals = [self.body.removeprefix("signal:")] if self.body.startswith("signal:") else [
                n for n in (self.view.main_signal, self.view.goal_signal, "lr") if n
            ]  # fmt: skip
            lo, hi = zoom.bounds(self.view)
            chart = queries.GetCurves(signals=signals, columns=min(800, max(40, 2 * boxes["chart"].width)),
                                      axis="hours" if self.view.axis == "hours" else "step", lo=lo, hi=hi, abandoned=True)  # fmt: skip
        if "signals" in boxes and self.view.status:
            across = columns(boxes["signals"].width)
            multiples = queries.GetCurves(signals=list(self.view.status.signals), columns=2 * boxes["signals"].width // across)
        before = self._poller.wants
        if _what(before.chart) != _what(chart) or _what(before.multiples) != _what(multiples):
            self._generation += 1
        self._poller.wants = Wants(self._generation, chart, multiples, "rules" in boxes, "train_log" in boxes)

    def _ask_anew(self) -> None:
        """The view has changed: what is under way is stale."""
        self._generation += 1
        self._update_wants()
        self._poller.wake()
        self.paint()

    # what comes

    def on_status_came(self, message: messages.StatusCame) -> None:
        """The present."""
        view, first = self.view, self.view.status is None
        view.lost_since = None
        view.status, view.status_at = message.status, view.now
        for gpu in message.status.gpus:
            history = view.gpu_history.setdefault(gpu.uuid, [])
            history.append(gpu.util)
            del history[:-HISTORY]
        self._command.known = command_line.known(message.status, [r.name for r in view.rules or []])
        self._update_wants()
        if first:
            self._poller.wake()
            self.paint()
        self._dirty = True

    def on_curves_came(self, message: messages.CurvesCame) -> None:
        """Curves; those that were asked for an earlier view are dropped."""
        if message.generation != self._generation:
            return
        if message.multiples:
            self.view.multiples = message.curves
        else:
            first, self.view.curves = self.view.curves is None, message.curves
            if first:
                self.paint()
        self._dirty = True

    def on_logbook_came(self, message: messages.LogbookCame) -> None:
        """What is new in the logbook."""
        known = [] if message.anew else self.view.entries
        self.view.entries = [*known, *message.entries][-KEEP_ENTRIES:]
        self._dirty = True

    def on_rules_came(self, message: messages.RulesCame) -> None:
        """Every rule."""
        self.view.rules = message.rules
        self._dirty = True

    def on_since_came(self, message: messages.SinceCame) -> None:
        """Shown until a key is pressed."""
        self.view.since, self.view.since_shown = message.since, True
        self.paint()

    def on_train_log_came(self, message: messages.TrainLogCame) -> None:
        """What the training printed."""
        self.view.train_log = message.lines
        self._dirty = True

    def on_daemon_lost(self) -> None:
        """Nobody answers: say so, keep what was known."""
        if self.view.lost_since is None:
            self.view.lost_since = self.view.now
        self.paint()

    def on_trouble(self, message: messages.Trouble) -> None:
        """One question could not be answered."""
        self.view.trouble = message.text
        self._dirty = True

    def on_deed_ended(self, message: messages.DeedEnded) -> None:
        """What became of a demand."""
        deed = message.deed
        deed.status, deed.text, deed.ended = message.status, message.text, self.view.now
        deed.step = message.answer.step if message.answer else None
        self._poller.wake()
        self.paint()


def _what(query: queries.GetCurves | None) -> tuple[object, ...]:
    """What makes two questions differ, but for the end of a window that follows the run."""
    return () if query is None else (query.signals, query.columns, query.axis)


def _is_light() -> bool:
    """What the terminal says of its background, where it says anything: the last number of COLORFGBG."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
