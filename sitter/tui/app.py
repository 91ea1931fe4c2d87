"""The terminal: a client that looks and asks, and owns nothing. Leaving it leaves everything running."""

import asyncio
import locale
import os
import signal
from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.app import App as TextualApp
from textual.app import ComposeResult
from textual.binding import Binding
from textual.geometry import NULL_OFFSET, Region, Size, Spacing
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.message import Message
from textual.widget import Widget

from sitter import grammar
from sitter.clock import Clock, SystemClock
from sitter.errors import UsageError
from sitter.model import Curve
from sitter.tui import command_line, messages, questions, since_panel, strip, zoom
from sitter.tui.catalogue import PANELS
from sitter.tui.chart_panel import ChartPanel
from sitter.tui.command_line import CommandLine
from sitter.tui.footer import Footer
from sitter.tui.glance_panel import GlancePanel
from sitter.tui.gpu_panel import HISTORY
from sitter.tui.header import Header
from sitter.tui.help_screen import HelpScreen
from sitter.tui.keys import KEYS, Key
from sitter.tui.logbook_panel import LogbookPanel
from sitter.tui.palette import Palette, palette
from sitter.tui.panel import Panel
from sitter.tui.plan import Box, Wish, is_wide, plan
from sitter.tui.poller import Poller, Reader, Wants, carry_out
from sitter.tui.prompt import Prompt
from sitter.tui.rules_panel import RulesPanel
from sitter.tui.signals_view import SignalsView, columns, shown
from sitter.tui.since_panel import SincePanel
from sitter.tui.strip import Strip
from sitter.tui.train_log_panel import TrainLogPanel
from sitter.tui.view import Deed, Question, View
from sitter_wire import queries

KEEP_ENTRIES = 5000
KEEP_DEEDS = 50


class _Planned(Layout):
    """Puts widgets where the plan says."""

    name = "planned"

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:  # noqa: ARG002
        """A placement for each child that has a box."""
        return [
            WidgetPlacement(Region(*self.boxes[child.id]), NULL_OFFSET, Spacing(), child)
            for child in children
            if child.id in self.boxes
        ]


class Desk(Widget):
    """Holds everything."""

    DEFAULT_CSS = "Desk { width: 100%; height: 100%; overflow: hidden; }"

    def __init__(self) -> None:
        super().__init__(id="desk")
        self.planned = _Planned()

    @property
    def layout(self) -> Layout:
        """Ours."""
        return self.planned


class App(TextualApp[None]):
    """Shows one run through a ``reader`` (see ``poller.Reader``); ``acting`` is a second one for demands, so that looking goes on while
    a demand waits for its safe point (one that answers several questions at a time may be given for both).

    ``ref``: curves to draw dashed. ``since``: unix time of the operator's last look. ``ascii``: no characters beyond ASCII.
    """

    AUTO_FOCUS = ""
    ENABLE_COMMAND_PALETTE = False
    INLINE_PADDING = 0
    POLL_S: ClassVar[float] = 0.5
    FRAMES_PER_S: ClassVar[float] = 4
    CSS = "Screen { layers: base; overflow: hidden; }"
    BINDINGS: ClassVar = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
        Binding("tab", "tab", show=False, priority=True),
        Binding("shift+tab", "tab", show=False, priority=True),
    ]

    def __init__(
        self, reader: Reader, *, run_name: str, ref: list[Curve] | None = None, since: float | None = None, ascii: bool = False,  # noqa: A002
        acting: Reader | None = None, clock: Clock | None = None, light: bool | None = None,
    ) -> None:  # fmt: skip
        colour = "NO_COLOR" not in os.environ  # Textual takes it out of the environment
        super().__init__(ansi_color=not colour)
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
            panel = kind(_id(kind))
            panel.number = number
            self._panels[_id(kind)] = panel
        for name, kind in (("header", Header), ("strip", Strip), ("since", SincePanel), ("chart", ChartPanel), ("glance", GlancePanel),
                           ("signals", SignalsView), ("help", HelpScreen), ("footer", Footer), ("prompt", Prompt)):  # fmt: skip
            self._panels[name] = kind(name)
        self._desk = Desk()
        self._dirty = False
        self._poller = Poller(reader, self._post, since=since, poll_s=self.POLL_S)
        self._by_key: dict[str, Key] = {name: key for key in KEYS for name in key.key.split(",")}

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

    def on_resize(self, event: events.Resize) -> None:  # noqa: ARG002
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
        rows = {name: self._rows_wanted(name) for name in map(_id, PANELS)}
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
        step = message.answer.detail.get("step") if message.answer else None
        deed.step = step if isinstance(step, int) else None
        self._poller.wake()
        self.paint()

    # what is pressed

    async def on_key(self, event: events.Key) -> None:
        """Questions first, then the list of keys."""
        name = event.character if event.character and event.character.isprintable() else event.key
        if self.view.question is not None and self._answer(self.view.question, name):
            event.stop()
            return
        key = self._by_key.get(name) or self._by_key.get(event.key)
        if key is None:
            return
        event.stop()
        if self.view.since_shown and key.method != "since":
            self.view.since_shown = False
        if key.method in ("arrow", "panel"):
            getattr(self, f"do_{key.method}")(event.key)
        else:
            getattr(self, f"do_{key.method}")()
        self.paint()

    def _answer(self, question: Question, name: str) -> bool:
        """True where the key belonged to the question."""
        pressed = {"enter": "Enter", "y": "Enter", "escape": "Esc", "n": "Esc"}.get(name, name)
        choice = next((c for c in question.choices if c.key == pressed), None)
        if choice is None and pressed != "Esc":
            self.view.question = None  # any other key goes on to mean what it says
            return False
        self.view.question = None
        if choice is not None:
            self.demand(choice.queries)
        self.paint()
        return True

    def demand(self, asked: Sequence[queries.AnyQuery]) -> None:
        """Send it; the outcome comes into the strip."""
        pairs = [(Deed(words=grammar.demand_in_words(query), sent=self.view.now), query) for query in asked]
        self.view.deeds = [*self.view.deeds, *(deed for deed, _ in pairs)][-KEEP_DEEDS:]
        carry_out(self._acting, pairs, self._post)

    def _refuse(self, words: str, why: str) -> None:
        now = self.view.now
        self.view.deeds.append(Deed(words=words, sent=now, status="refused", text=why, ended=now))

    def _ask(self, words: str, question: Question | None, why_not: str = "") -> None:
        why_not = why_not or ("nothing is proposed" if question is None else "")
        if why_not or question is None:
            self._refuse(words, why_not)
        else:
            self.view.question = question

    def do_pause(self) -> None:
        """P."""
        self._ask("pause", questions.pause(self.view), questions.ended(self.view))

    def do_checkpoint(self) -> None:
        """C."""
        self._ask("checkpoint", questions.checkpoint(self.view), questions.ended(self.view))

    def do_stop(self) -> None:
        """S."""
        self._ask("stop", questions.stop(self.view), questions.ended(self.view))

    def do_approve(self) -> None:
        """A."""
        self._ask("approve", questions.approve(self.view))

    def do_veto(self) -> None:
        """V: at once, since it may be urgent, and nothing is done by it."""
        if self.view.proposal is None:
            self._refuse("veto", "nothing is proposed")
        else:
            self.demand([queries.Veto(id=self.view.proposal.id)])

    def do_learning_rate(self) -> None:
        """L."""
        self._open_command(":", "set lr=0.5x") if not questions.ended(self.view) else self._refuse("set lr", questions.ended(self.view))

    def do_roll_back(self) -> None:
        """R."""
        self._open_command(":", "rollback") if not questions.ended(self.view) else self._refuse("rollback", questions.ended(self.view))

    def do_next_proposal(self) -> None:
        """Tab."""
        self.view.proposal_at = (self.view.proposal_at + 1) % max(1, len(self.view.proposals))

    def do_panel(self, key: str) -> None:
        """1 to 5: look at it; again: enlarge it."""
        name = _id(PANELS[int(key) - 1])
        if self.body == name:
            return
        if self.body == "home" and self.chosen != name:
            self._choose(name)
        else:
            self._choose(name)
            self._enlarge(name)

    def _choose(self, name: str | None) -> None:
        self.chosen = name
        for panel in self._panels.values():
            panel.chosen = panel.id == name

    def _enlarge(self, body: str) -> None:
        self.body = body
        self.view.enlarged = None if body == "home" else body
        self._ask_anew()

    def do_signals(self) -> None:
        """s."""
        self.view.multiples = None
        self._enlarge("home" if self.body == "signals" else "signals")

    def do_since(self) -> None:
        """w."""
        self.view.since_shown = not self.view.since_shown and self.view.since is not None

    def do_help(self) -> None:
        """?: about what is on the screen now."""
        page = self._panels["help"]
        if isinstance(page, HelpScreen) and self.body != "help":
            page.about = [self._panels[n] for n in self._desk.planned.boxes if n in self._panels]
            page.scroll = 0
        self._enlarge("home" if self.body == "help" else "help")

    def do_axis(self) -> None:
        """x."""
        axes = zoom.axes(self.view)
        self.view.axis = axes[(axes.index(self.view.axis) + 1) % len(axes)] if self.view.axis in axes else "step"
        self.view.span = self.view.end = None
        self._new_curves()

    def do_height(self) -> None:
        """y."""
        self.view.y = {"recent": "whole", "whole": "log", "log": "recent"}[self.view.y]  # type: ignore[assignment]

    def do_band(self) -> None:
        """b."""
        self.view.band = not self.view.band

    def do_zoom_in(self) -> None:
        """+."""
        zoom.zoom_in(self.view)
        self._ask_anew()

    def do_zoom_out(self) -> None:
        """-."""
        zoom.zoom_out(self.view)
        self._ask_anew()

    def do_zoom_all(self) -> None:
        """0."""
        self.view.span = self.view.end = None
        self._ask_anew()

    def _new_curves(self) -> None:
        self.view.curves = None
        self._ask_anew()

    def do_arrow(self, key: str) -> None:
        """Move in whatever is looked at."""
        if self.body == "signals":
            self._move_in_signals(key)
        elif key in ("left", "right") and "chart" in self._desk.planned.boxes:
            zoom.pan(self.view, -1 if key == "left" else 1)
            self._ask_anew()
        else:
            self._scroll(key)

    def _scroll(self, key: str) -> None:
        panel = self._panels.get(self.body) or self._panels.get(self.chosen or "")
        if panel is None:
            return
        page = max(1, panel.size.height - 2)
        rows = {"up": -1, "down": 1, "pageup": -page, "pagedown": page, "home": -(10**9), "end": 10**9}.get(key, 0)
        panel.scrolled(-rows if panel.follow else rows)

    def _move_in_signals(self, key: str) -> None:
        across = columns(self._panels["signals"].size.width)
        last = len(shown(self.view)) - 1
        by = {"left": -1, "right": 1, "up": -across, "down": across, "pageup": -4 * across, "pagedown": 4 * across,
              "home": -(10**6), "end": 10**6}.get(key, 0)  # fmt: skip
        self.view.multiple_at = min(max(0, self.view.multiple_at + by), max(0, last))

    def do_enter(self) -> None:
        """Enlarge what is chosen."""
        if self.body == "signals":
            names = shown(self.view)
            if names:
                self.view.curves = None
                self._enlarge(f"signal:{names[min(self.view.multiple_at, len(names) - 1)]}")
        elif self.body == "home" and self.chosen:
            self._enlarge(self.chosen)

    def do_escape(self) -> None:
        """One thing back: the filter, outcomes, what is enlarged, the chosen panel."""
        done = [d for d in strip.recent(self.view) if d.ended is not None]
        if self.view.find:
            self.view.find = ""
        elif done:
            for deed in done:
                deed.ended = -1e18
        elif self.body.startswith("signal:"):
            self.view.curves = None
            self._enlarge("signals")
        elif self.body != "home":
            self._enlarge("home")
        else:
            self._choose(None)

    def do_theme(self) -> None:
        """t."""
        self._light = not self._light
        self._paint_background()
        for panel in self._panels.values():
            panel.refresh()

    def do_command(self) -> None:
        """:."""
        self._open_command(":", "")

    def do_find(self) -> None:
        """/."""
        if self.body == "home" and not (self.chosen or is_wide(*self.size)):
            self._choose(_id(LogbookPanel))
        self._open_command("/", self.view.find)

    def do_leave(self) -> None:
        """q."""
        self.exit()

    def action_leave(self) -> None:
        """Ctrl-C: leaving is harmless, the run goes on."""
        self.exit()

    def action_tab(self) -> None:
        """Completes where a command is typed, else the next proposal."""
        if self._command_open:
            self._command.complete()
        else:
            self.do_next_proposal()
            self.paint()

    # the line after : and /

    def _open_command(self, kind: command_line.Kind, text: str) -> None:
        self._command_open = True
        prompt = self._panels["prompt"]
        if isinstance(prompt, Prompt):
            prompt.kind = kind
        self._command.open(kind, text)
        self._say_what_it_means()
        self.arrange()
        self._command.focus()

    def _close_command(self) -> None:
        self._command_open = False
        self.view.command_hint, self.view.command_wrong = "", False
        self.set_focus(None)
        self.paint()

    def _say_what_it_means(self) -> None:
        if self._command.kind == "/":
            self.view.find = self._command.value
            self.view.command_hint, self.view.command_wrong = "shows only what contains these words; Enter keeps it, Esc shows all again", False
            return
        self.view.command_hint, self.view.command_wrong = command_line.preview(self._command.value, self.view.status, self._command.known)

    def on_command_line_typed(self) -> None:
        """Show what it would mean."""
        if self._command_open:
            self._say_what_it_means()
            self.paint()

    def on_command_line_entered(self) -> None:
        """Do it; where it is wrong the line stays open."""
        line = self._command
        if line.kind == ":" and line.value.strip():
            try:
                asked = grammar.parse_all(command_line.words(line.value))
            except UsageError as e:
                self.view.command_hint, self.view.command_wrong = str(e), True
                self.paint()
                return
            self.demand(asked)
        line.remember()
        self._close_command()

    def on_command_line_left(self) -> None:
        """Nothing is done."""
        if self._command.kind == "/":
            self.view.find = ""
        self._close_command()


def _what(query: queries.GetCurves | None) -> tuple[object, ...]:
    """What makes two questions differ, but for the end of a window that follows the run."""
    return () if query is None else (query.signals, query.columns, query.axis)


def _id(kind: type[Panel]) -> str:
    """``TrainLogPanel`` → ``train_log``."""
    name = kind.__name__.removesuffix("Panel")
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))


def _is_light() -> bool:
    """What the terminal says of its background, where it says anything: the last number of COLORFGBG."""
    return os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
