"""The app on a made-up run whose clock stands still, and a way to wait for what the screen says."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from sitter.testing.fake_reader import FakeReader
from sitter.testing.manual_clock import ManualClock
from sitter.tui.app import App
from sitter.tui.lines import text_of


class QuickApp(App):
    POLL_S = 0.03
    FRAMES_PER_S = 40


class Screen:
    """One app under test."""

    def __init__(self, app: App, pilot: Pilot[None], reader: FakeReader, clock: ManualClock) -> None:
        self.app, self.pilot, self.reader, self.clock = app, pilot, reader, clock

    @property
    def text(self) -> str:
        """What is seen, panel by panel."""
        return "\n".join(self.part(name) for name in self.app._desk.planned.boxes if name in self.app._panels)

    def part(self, name: str) -> str:
        return text_of(self.app._panels[name].drawn)

    @property
    def shown(self) -> set[str]:
        return set(self.app._desk.planned.boxes)

    async def press(self, *keys: str) -> None:
        """Each has been heard, also by the line that is being typed, before the next; what is drawn of it is to be waited for."""
        for key in keys:
            await self.pilot.press(key)
            await self._heard()

    async def write(self, text: str) -> None:
        names = {" ": "space"}
        await self.pilot.press(*(names.get(c, c) for c in text))
        await self._heard()

    async def _heard(self) -> None:
        """From the app to the line, and what that says back up through its parents: a message takes one turn from each to the next."""
        for _ in range(6 if self.app._command.display else 1):
            await self.pilot._wait_for_screen()

    async def until(self, what: Callable[[], object], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain; the screen says:\n{self.text}"
            await self.pilot.pause(0.02)

    async def says(self, *words: str) -> None:
        """Whatever is said may go over two rows."""
        await self.until(lambda: all(w in self.text or w in " ".join(self.text.split()) for w in words))

    async def no_longer_says(self, word: str) -> None:
        await self.until(lambda: word not in self.text)

    def asked(self, kind: type) -> list[Any]:
        return [q for q in list(self.reader.asked) if isinstance(q, kind)]


@asynccontextmanager
async def open_app(
    size: tuple[int, int] = (80, 24), *, reader: FakeReader | None = None, clock: ManualClock | None = None, wait: bool = True, **given: Any
) -> AsyncIterator[Screen]:
    clock = clock or ManualClock()
    reader = reader or FakeReader(clock)
    app = QuickApp(reader, run_name="char-lm", clock=clock, **given)
    async with app.run_test(size=size) as pilot:
        screen = Screen(app, pilot, reader, clock)
        if wait:
            await screen.until(lambda: app.view.status is not None and app.view.curves is not None)
            await screen.until(lambda: not app.view.status or app.view.status.log_id == len(app.view.entries))
        yield screen


async def _at_once(_seconds: float = 0.0) -> None:
    await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key waits for the process to be idle, which says nothing where others have the machine, and a test waits for what it looks at."""
    monkeypatch.setattr("textual.app.wait_for_idle", _at_once)
    monkeypatch.setattr(Pilot._wait_for_screen, "__defaults__", (250.0,))
    for name in ("NO_COLOR", "COLORFGBG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a story on an app: ``play(story, (80, 24), reader=…)``."""

    def tell(story: Callable[[Screen], Awaitable[None]], size: tuple[int, int] = (80, 24), **given: Any) -> None:
        async def go() -> None:
            async with open_app(size, **given) as screen:
                await story(screen)

        asyncio.run(go())

    return tell
