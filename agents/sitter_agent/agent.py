"""What a training script sees: ``start``, and the agent it returns. Nothing in here raises into the training."""

import atexit
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from sitter_agent import loops
from sitter_agent.as_float import as_floats
from sitter_agent.counting import Counting
from sitter_agent.feed import Feed
from sitter_agent.fork import watch
from sitter_agent.guard_rail import OFF
from sitter_agent.handlers import raised_by_handler
from sitter_agent.held_back import HeldBack
from sitter_agent.knobs import FreeKnob, Scale
from sitter_agent.memory import steady_heap
from sitter_agent.names import Names
from sitter_agent.opening import Given, Opened, open_session
from sitter_agent.progress import Progress
from sitter_agent.quick import Put
from sitter_agent.resuming import own_knob_again
from sitter_agent.safe_point import SafePoint
from sitter_agent.say import say
from sitter_agent.state import Adapter, RestoreHook
from sitter_agent.tensors import on_gpu
from sitter_wire.events import KnobDeclared

_current: "Agent | None" = None

MOST_KNOWN = 100
"""Sets of names that have a short way into the file."""
QUICK_STEPS = (1 << 30) - 1
"""Up to here Python compares two ints without calling anything; later steps are only slower to take."""

Known = tuple[tuple[str, ...], Put, str | None]
"""Such a set, its way, and the goal's name where that is in it."""
UNKNOWN: Known = (), lambda step, branch, values: False, None


F = TypeVar("F", bound=Callable[..., Any])


def untraced(entry: F) -> F:
    """A step that ``torch.compile`` compiles may call this: the compiler goes round it as round what ``torch._dynamo.disable`` wrapped,
    which would need torch to be imported. Traced, the short way into the file made it fail, in the midst of the script's step.
    """
    entry._torchdynamo_disable = True  # type: ignore[attr-defined]
    entry._torchdynamo_disable_msg = "of sitter's; it records, and computes nothing"  # type: ignore[attr-defined]
    return entry


def start(
    model: Any = None, optimizer: Any = None, scheduler: Any = None, *, scaler: Any = None, loader: Any = None,
    extra: dict[str, Any] | None = None, goal: str | None = None, better: Literal["lower", "higher"] = "lower",
    kind: str | None = None, name: str | None = None, total: int | None = None, step: int | None = None, daemon: bool = True,
    pause_gives_way_s: float = 60.0,
) -> "Agent":  # fmt: skip
    """Begin looking after this training. Returns an agent whatever goes wrong; one line says how it stands.

    ``model``, ``optimizer``, ``scheduler``, ``scaler``: torch's, or dicts of them; ``extra``: more state by name (an EMA).
    ``goal`` names the signal that says how good the model is, ``better`` which way. ``kind``: ``supervised``, ``rl`` or
    ``gan``; None: what the names of the signals say. ``total`` optimizer steps, where the script's own loop runs. ``step``:
    how many are done already, where the script has loaded a state of its own; after a restart that is compared with the
    checkpoint's, and the newer one stands. ``daemon=False`` (or ``SITTER=off`` in the environment) only records. ``loader`` is
    not needed where ``agent.loop`` or ``agent.batches`` gets it. Called again, it ends the first session.
    """
    try:
        with HeldBack():
            return _begun(Given(
                model=model, optimizer=optimizer, scheduler=scheduler, scaler=scaler, extra=extra, goal=goal, better=better, kind=kind,
                name=name, total=total, step=step, daemon=daemon, pause_gives_way_s=pause_gives_way_s,
            ))  # fmt: skip
    except BaseException:  # what a handler of the script raised: its Ctrl-C, mostly
        if _current is not None:
            _current.close()
        raise


def _begun(given: Given) -> "Agent":
    global _current
    if _current is not None:
        _current.close()
    opened: Opened | None = None
    adapter, text = None, ""
    try:
        opened, adapter, text = open_session(given)
        if opened is not None:
            steady_heap()
    except Exception as e:  # nothing of ours escapes into training
        if raised_by_handler(e):
            raise
        text = f"recording nothing, nobody is watching: {type(e).__name__}: {e}"
    say(text)
    _current = Agent(opened, adapter, given.total, given.step or 0)
    atexit.register(_current.close)
    return _current


def current() -> "Agent | None":
    """The agent that ``start`` returned last in this process, or None."""
    return _current


class Agent:
    """One session. Where nothing can be recorded, the loops go on just the same."""

    def __init__(self, opened: Opened | None, adapter: Adapter | None, total: int | None = None, step: int = 0) -> None:
        self._opened = opened
        self._host: Counting
        if opened is not None:
            self._host = opened.safe_point
            self._host.progress.total = total
        else:
            self._host = Counting(adapter, Progress(total=total, done=step, current=step))
        self._progress = self._host.progress
        self._core = opened.core if opened is not None else None
        self._names = Names()
        self._feeds: dict[int, weakref.ref[Feed]] = {}
        self._rail = opened.core.rail if opened is not None else OFF
        self._known: dict[tuple[str, ...], Known] = {}
        self._last = UNKNOWN
        watch(self)

    # -- loops -----------------------------------------------------------------------------------------------------------

    def loop(self, loader: Iterable[Any], total: int | None = None) -> Iterator[tuple[int, Any]]:
        """(step, batch) until ``total`` optimizer steps are done, the loader again and again; without ``total`` one pass."""
        return loops.loop(self._host, self._feed(loader), total)

    def steps(self, total: int) -> Iterator[int]:
        """Steps until ``total`` are done, for scripts that fetch their batches themselves."""
        return loops.steps(self._host, total)

    def epochs(self, count: int) -> Iterator[int]:
        """Epochs from 0; inside, ``for batch in agent.batches(loader)``."""
        return loops.epochs(self._host, count)

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """One pass over the loader."""
        return loops.batches(self._host, self._feed(loader))

    # -- every step ------------------------------------------------------------------------------------------------------

    @untraced
    def log(self, values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **named: Any) -> None:
        """Record values of the present step: floats, ints, numpy scalars, tensors with one element. ``step`` in a loop of one's own.

        Names that are no Python names go in a dict: ``agent.log({"train/loss": loss})``. Never raises, never waits for a GPU.
        """
        # After a step of training nothing of ours is in the processor's caches any more, and each object that is looked at is fetched anew:
        # so the fewest are looked at, and the names of the last call are tried before the table.
        if not self._rail.on:
            return
        try:
            p = self._progress
            if step is None or p.managed:
                step = p.current
            elif type(step) is int and 0 <= step <= QUICK_STEPS:
                p.current, p.given = step, True
            else:
                step = p.say(step)
            if values is not None:
                named = {**values, **named}
            names, put, goal = self._last
            if tuple(named) != names:
                names, put, goal = self._last = self._known.get(tuple(named), UNKNOWN)
            if not put(step, p.branch, named.values()):
                self._log(named, step)
            elif goal is not None and self._core is not None:
                self._core.goal_value = named[goal]
            if step != p.logged:
                p.logged, p.points = step, p.points + 1
        except Exception as e:  # nothing of ours escapes into training
            if raised_by_handler(e):
                raise
            self._rail.caught("log", e)

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        """What the short way cannot take: new names, other kinds of numbers, no room."""
        core = self._core
        if core is None:
            return
        known = self._names(values)
        if not core.logged.issuperset(known):
            core.logged.update(known)
            if "grad_norm" in known and hasattr(core.adapter, "user_logs_grad_norm"):
                core.adapter.user_logs_grad_norm = True
        given, names = tuple(values), tuple(known)
        for value in known.values():
            if type(value) is not float and on_gpu(value):
                known = self._to_come(known)
                break
        if core.goal is not None and core.goal in known:
            numbers, _ = as_floats({core.goal: known[core.goal]})  # what is none is told by the recorder
            core.goal_value = numbers.get(core.goal, core.goal_value)
        core.recorder.log(step, core.progress.branch, known)  # type: ignore[arg-type]
        if given not in self._known and len(self._known) < MOST_KNOWN:
            put = core.recorder.short_way(names)
            if put is not None:
                self._known[given] = given, put, given[names.index(core.goal)] if core.goal in names else None

    @untraced
    def safe_point(self, step: int | None = None) -> None:
        """In a loop of one's own: call it once a turn, after the optimizer's step.

        Raises KeyboardInterrupt once, where a stop was commanded.
        """
        if isinstance(self._host, SafePoint):
            self._host.own(step)
        elif not self._progress.managed:
            self._host.turn_over(0.0)

    # -- set-up ----------------------------------------------------------------------------------------------------------

    def knob(
        self,
        name: str,
        *,
        get: Callable[[], float],
        set: Callable[[float], object],  # noqa: A002 — the contract's word
        low: float,
        high: float,
        scale: Scale = "linear",
    ) -> None:
        """Something that may be changed in flight. ``get`` and ``set`` are of the same value, ``low`` and ``high`` its bounds."""
        core = self._core
        if core is None:
            return
        with core.rail.around("knob"):
            try:
                knob = FreeKnob(name, get, set, low, high, scale)
                knob.effective()
            except Exception as e:  # said to the user, and training goes on without the knob
                if raised_by_handler(e):
                    raise
                say(f"{e}; the knob is not offered")
                core.remark(f"{e}; the knob is not offered", "warning")
                return
            core.free_knobs[name] = knob
            core.event(KnobDeclared(spec=knob.spec))
            own_knob_again(core, knob)

    def state(self, *, save: Callable[[], Any], load: Callable[[Any], Any]) -> None:
        """The whole training state, framework-free. ``save()`` returns arrays, numbers and texts in dicts and lists (it is copied);
        ``load(state)`` puts such a thing back, in place.
        """
        core = self._core
        if core is None or self._opened is None:
            return
        with core.rail.around("state"):
            if core.adapter is not core.generic:
                text = (
                    "agent.state() is for training without a framework: give start(…, extra={…}) what belongs to the "
                    "state; it is NOT covered now"
                )
                say(text)
                core.remark(text, "warning")
                return
            core.generic.register(save, load)
            self._opened.resume()

    def on_restore(self, hook: RestoreHook) -> RestoreHook:
        """``hook(step)`` is called after the state of ``step`` was put back: for averages and counters of one's own.

        Usable as a decorator.
        """
        if self._core is not None:
            self._core.hooks.append(hook)
        return hook

    # -- where it stands -------------------------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Optimizer steps done before this turn."""
        return self._progress.current

    @property
    def micro(self) -> int:
        """Turns of the loop."""
        return self._progress.micro

    @property
    def stopping(self) -> bool:
        """Whether a stop was commanded."""
        return self._progress.stopping

    @property
    def recording(self) -> bool:
        """Whether anything is recorded here."""
        return self._rail.on

    @property
    def run(self) -> str | None:
        """The run directory."""
        return str(self._core.run.path) if self._core is not None else None

    def close(self) -> None:
        """End the session: what is on its way is written, the daemon told. Called at exit by itself; again does nothing."""
        with HeldBack():
            opened, self._opened, self._core, self._rail = self._opened, None, None, OFF
            self._known, self._last = {}, UNKNOWN
            atexit.unregister(self.close)
            if opened is None:
                return
            self._host = Counting(opened.core.adapter, self._progress)
            try:
                opened.close()
            except Exception as e:
                if raised_by_handler(e):
                    raise

    def forked(self) -> None:
        """In a forked child: nothing is recorded, and the loops go on."""
        if self._opened is not None:
            self._opened.core.rail.on, self._opened.safe_point.closed = False, True
        self._opened, self._core, self._rail = None, None, OFF
        self._host = Counting(None, self._progress)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Agent":
        """A copy of what holds an agent (a trainer, a data set) holds the same one: there is one session."""
        return self

    def __reduce__(self) -> tuple[Callable[[], "Agent"], tuple[()]]:
        """In another process (a spawned worker, a file) it records nothing, and its loops go on."""
        return _inert, ()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _feed(self, loader: Any) -> Feed:
        # Not a WeakValueDictionary: what a signal handler of the script raises in its callback would be lost.
        known = self._feeds.get(id(loader))
        feed = known() if known is not None else None
        if feed is None or feed.loader is not loader:
            feed = Feed(loader)
            self._feeds = {key: ref for key, ref in self._feeds.items() if ref() is not None}
            self._feeds[id(loader)] = weakref.ref(feed)
        return feed

    def _to_come(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Start the copies of what lies on a GPU; what is left can be recorded at once."""
        core = self._core
        assert core is not None
        here = {}
        for name, value in values.items():
            if on_gpu(value):
                core.pending.add(core.progress.current, core.progress.branch, name, value)
            else:
                here[name] = value
        return here


def _inert() -> Agent:
    return Agent(None, None)
