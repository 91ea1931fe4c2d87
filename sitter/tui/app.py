"""The terminal: a client that looks and asks, and owns nothing. Leaving it leaves everything running."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding

from sitter import grammar
from sitter.errors import UsageError
from sitter.tui import command_line, questions, strip, zoom
from sitter.tui.catalogue import PANELS, panel_id
from sitter.tui.frame import Frame
from sitter.tui.help_screen import HelpScreen
from sitter.tui.keys import KEYS, Key
from sitter.tui.logbook_panel import LogbookPanel
from sitter.tui.plan import is_wide
from sitter.tui.poller import carry_out
from sitter.tui.prompt import Prompt
from sitter.tui.signals_view import columns, shown
from sitter.tui.view import Deed, Question
from sitter_wire import queries

KEEP_DEEDS = 50

_BY_KEY: dict[str, Key] = {name: key for key in KEYS for name in key.key.split(",")}


class App(Frame):
    """Shows one run through ``reader``, and does what the keys in ``keys.KEYS`` say. What may be given: see ``Frame``."""

    BINDINGS: ClassVar = [
        Binding("ctrl+c", "leave", show=False, priority=True),
        Binding("ctrl+q", "leave", show=False, priority=True),
        Binding("tab", "tab", show=False, priority=True),
        Binding("shift+tab", "tab", show=False, priority=True),
    ]

    # what is pressed

    async def on_event(self, event: events.Event) -> None:
        """Keys mean something in the order in which they come: what is typed right behind ``:`` belongs to the line already.

        (Left to bubble up from the screen, a key that came with ``:`` in one packet of a slow line would be taken for a key of its own.)
        """
        if isinstance(event, events.Key) and not event.is_forwarded and not self._command_open and self._desk.is_mounted:
            if not self._pressed(event):
                await super().on_event(event)
            return
        await super().on_event(event)

    def _pressed(self, event: events.Key) -> bool:
        """Questions first, then the list of keys; False where it is no key of ours."""
        name = event.character if event.character and event.character.isprintable() else event.key
        if self.view.question is not None and self._answer(self.view.question, name):
            return True
        key = _BY_KEY.get(name) or _BY_KEY.get(event.key)
        if key is None:
            return False
        if self.view.since_shown and key.method != "since":
            self.view.since_shown = False
        if key.method in ("arrow", "panel"):
            getattr(self, f"do_{key.method}")(event.key)
        else:
            getattr(self, f"do_{key.method}")()
        self.paint()
        return True

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
        self._ask("approve", questions.approve(self.view), questions.ended(self.view) if self.view.proposal else "")

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
        name = panel_id(PANELS[int(key) - 1])
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
        if self.view.since is None:
            self._refuse("since you left", "no earlier look at this run is known")
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
        if self.view.find:
            self.view.find = ""
        elif any(deed.ended is not None for deed in strip.recent(self.view)):
            self.view.deeds = [deed for deed in self.view.deeds if deed.ended is None]  # also those that these two had pushed out
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
            self._choose(panel_id(LogbookPanel))
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
            self._command.call_later(self._command.complete)  # behind what was typed before it in the same packet
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
        self.set_focus(self._command)  # now, not soon: the next key is the line's

    def _close_command(self) -> None:
        self._command_open = False
        self.view.command_hint, self.view.command_wrong = "", False
        self.set_focus(None)
        self.paint()

    def _say_what_it_means(self) -> None:
        if self._command.kind == "/":
            self.view.find = self._command.value
            said = "shows only what contains these words; Enter keeps it, Esc shows all again", False
        else:
            said = command_line.preview(self._command.value, self.view.status, self._command.known)
        self.view.command_hint, self.view.command_wrong = said

    def on_command_line_typed(self) -> None:
        """Show what it would mean."""
        if self._command_open:
            self._say_what_it_means()
            self.paint()

    def on_command_line_entered(self) -> None:
        """Do it; where it is wrong the line stays open."""
        line = self._command
        if not self._command_open:
            return  # Enter was pressed twice; it is done once
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
