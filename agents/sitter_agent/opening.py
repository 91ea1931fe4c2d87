"""Wires one session together: run directory, lock, recorder, link, daemon. The agent's composition root."""

import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from sitter_agent import launcher as launching
from sitter_agent.checkpoint_files import DamagedError, Sidecar, check, read_sidecar
from sitter_agent.checkpoints import Vault, load
from sitter_agent.commands import Commands
from sitter_agent.core import Core
from sitter_agent.guard_rail import GuardRail
from sitter_agent.handlers import raised_by_handler
from sitter_agent.launcher import Launcher
from sitter_agent.link import Link, Status
from sitter_agent.names import canonical
from sitter_agent.notices import Notices, rescue
from sitter_agent.recorder import Recorder
from sitter_agent.resuming import take_up
from sitter_agent.safe_point import SafePoint
from sitter_agent.say import in_words, say, uncaught
from sitter_agent.session import Session, claim
from sitter_agent.snapshots import Ring
from sitter_agent.stacks import StackFile
from sitter_agent.state import Adapter
from sitter_wire.events import KINDS, GoodBye, SessionStart
from sitter_wire.places import Endpoints, PlaceError, RunDir

LAST_WRITE_S = 120.0
"""At exit a checkpoint that is being written is waited for so long."""
PENDING_S = 1.0

try:
    VERSION = importlib.metadata.version("train-sitter")
except importlib.metadata.PackageNotFoundError:
    VERSION = "0+unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the script gave to ``start``, which says what each of it is."""

    model: Any
    optimizer: Any
    scheduler: Any
    scaler: Any
    extra: dict[str, Any] | None
    goal: str | None
    better: Literal["lower", "higher"]
    kind: str | None
    name: str | None
    total: int | None
    step: int | None
    daemon: bool
    pause_gives_way_s: float


class Opened:
    """A session that records."""

    def __init__(
        self, core: Core, session: Session, recorder: Recorder, link: Link | None, launcher: Launcher, safe_point: SafePoint,
        notices: Notices, stacks: StackFile, resume: tuple[Path, Sidecar] | None, step: int | None = None,
    ) -> None:  # fmt: skip
        self.core, self.session, self.recorder, self.link = core, session, recorder, link
        self.launcher, self.safe_point, self.notices = launcher, safe_point, notices
        self.stacks = stacks
        self._resume, self._step = resume, step

    def resume(self) -> None:
        """Put the state of ``SITTER_RESUME`` back, once it is known what the state is."""
        if self._resume is None or not self.core.has_state():
            return
        (path, side), self._resume = self._resume, None
        p, touched = self.core.progress, False
        try:
            captured, meta = load(self.core.adapter, path, side)
            touched = True
            text = take_up(self.core, captured, meta, side, self._step)
        except Exception as e:
            if raised_by_handler(e):
                raise
            # Said loudly. What the script has is what it trains, and it counts from where that begins.
            p.line, p.done, p.current = [(p.branch, 0)], 0, 0
            self.core.vault.keep_line = list(p.line)
            begins = "the state may be mixed: stop, and start again" if touched else "the training begins with the script's own state"
            text = f"could NOT go on from {path}: {in_words(e)}; {begins}"
            say(text)
            self.core.remark(text, "warning")
            return
        say(text)
        self.core.remark(text)

    def close(self) -> None:
        """In the order in which things depend on each other; each part bounded in time. Raises only what a handler of the script raised
        in one of them, after all of them."""
        core = self.core
        self.launcher.enabled = False
        parts: list[tuple[str, Callable[[], object]]] = [
            ("closing", self.notices.remove),
            ("closing the checkpoints", self._close_checkpoints),
            ("closing", self._await_pending),
            ("the last commands", self.safe_point.commands.expire_rest),
            ("the good-bye", self._good_bye),
            *(("closing", part.close) for part in (self.link, self.recorder) if part is not None),
            ("closing", self._close_adapter),
            ("closing", self.stacks.close),
            ("closing", self.session.release),
            ("closing", core.ring.drop_all),
        ]
        interrupt: BaseException | None = None
        for where, part in parts:
            try:
                with core.rail.around(where):
                    part()
            except BaseException as e:  # noqa: BLE001 — a Ctrl-C in one of the waits; what follows is closed all the same
                interrupt = interrupt or e
        core.feed, core.loader_waits = None, None
        core.hooks.clear()
        core.free_knobs.clear()
        core.rail.on = False
        if interrupt is not None:
            raise interrupt

    def _close_checkpoints(self) -> None:
        if not self.core.vault.close(LAST_WRITE_S):
            self.core.remark("a checkpoint was still being written at exit: it is not there", "warning")

    def _await_pending(self) -> None:
        until = time.monotonic() + PENDING_S
        while len(self.core.pending) and time.monotonic() < until:
            self.core.pending.poll()
            time.sleep(0.001)

    def _good_bye(self) -> None:
        p = self.core.progress
        done = p.total is not None and p.done >= p.total - (1 if p.given else 0)
        why = "" if p.stopping else uncaught()
        self.safe_point.good_bye("crashed" if why else "total" if done else "left early" if p.managed else "closed", why)

    def _close_adapter(self) -> None:
        self.safe_point.closed = True
        self.core.adapter.tell_to(say)
        if self.core.progress.managed:  # its loop still runs, and must end at the step where it would have ended without us
            self.core.adapter.rest()
        else:
            self.core.adapter.close()


def open_session(given: Given) -> tuple[Opened | None, Adapter | None, str]:
    """The session (None: nothing is recorded), the framework's adapter, and the one line that says how it stands. Where it raises, nothing
    of it is left but the run directory."""
    with contextlib.ExitStack() as undo:
        found = _open(undo, given)
        undo.pop_all()
    return found


def _open(undo: contextlib.ExitStack, given: Given) -> tuple[Opened | None, Adapter | None, str]:
    """``undo`` learns how what is there by then is ended, should the rest fail or be interrupted."""
    adapter, doubts = framework(given)
    if adapter is not None:
        undo.callback(adapter.close)
    not_here = _not_the_agent()
    if not_here:
        return None, adapter, f"recording nothing here: {not_here}"
    try:
        run, info = launching.open_run(given.name, VERSION)
    except OSError as e:
        return None, adapter, f"recording nothing, nobody is watching: {e}"
    session, why = claim(run)
    if session is None:
        return None, adapter, f"recording nothing here: {why}"
    undo.callback(session.release)
    resume, side, trouble = _resume_from()
    branch = session.new_branch()
    recorder = Recorder(run.recorder, session.id, branch=branch)
    undo.callback(recorder.close)
    rail = GuardRail()
    ring = Ring()
    vault = Vault(run, session.id, recorder.event, ring.release, better=given.better)  # type: ignore[arg-type]
    core = Core(
        run=run, session=session.id, recorder=recorder, rail=rail, new_branch=session.new_branch, branch=branch, vault=vault, ring=ring,
        pause_gives_way_s=given.pause_gives_way_s,
    )  # fmt: skip
    vault.good_after = launching.healthy_steps(run) or vault.good_after
    rail.remark = lambda text: core.remark(text, "warning")
    p = core.progress
    p.total = given.total
    if side is not None:
        p.line, p.done, p.current = [*side.line, (branch, side.step)], side.step, side.step
    elif given.step is not None:
        p.done = p.current = max(0, int(given.step))
    if adapter is not None:
        core.adapter = adapter
        undo.callback(adapter.tell_to, say)
        adapter.tell_to(lambda text: _tell(core, text))
    core.goal = canonical(given.goal) if given.goal else None
    vault.clear_step = lambda b, s: _followed(core, b, s)
    vault.keep_line = list(p.line)
    stacks = StackFile(run.reports / f"stacks-{session.id}.txt")
    undo.callback(stacks.close)
    undo.callback(core.event, GoodBye(how="left early"))
    kind = given.kind if given.kind in KINDS else ""
    core.event(
        SessionStart(
            pid=os.getpid(), host=socket.gethostname(), branch=branch, argv=list(sys.argv), versions=_versions(),
            goal=core.goal, better=given.better, kind=kind, total=given.total, gpus=_gpus(given.model),
            resumed=(side.branch, side.step) if side is not None else None, clips=bool(getattr(adapter, "clips", False)),
            stacks_signal=stacks.signal(),
        )
    )  # fmt: skip
    if given.kind and not kind:
        doubts.append(f"kind = {given.kind!r} is none of {', '.join(KINDS)}: it is taken from the names of what is logged")
    with rail.around("declaring the knobs"):
        core.declare_knobs()
    _say_doubts(core, adapter, info.elsewhere, [*trouble, *doubts])
    commands = Commands(core)
    places, why = _places(run, info)
    link: Link | None = None
    launcher = Launcher(run, lambda: link.last_heard if link is not None else None, lambda text: _tell(core, text))
    safe_point: SafePoint
    notices = Notices(
        lambda: safe_point.progress.safe_point_at is not None and not safe_point.said_goodbye, partial(rescue, core)
    )
    safe_point = _safe_point(core, commands, notices)
    if not why:
        why = _declined(given.daemon) or launcher.start()
    # After the daemon: a socket that finds nobody there tries again only after 0.1 to 0.2 s, in which a short run is half over.
    if places is not None:
        core.link = link = _link(core, session, recorder, commands, places, stacks, launcher)
        undo.callback(link.close)
    undo.callback(notices.remove)
    notices.install()
    opened = Opened(
        core, session, recorder, link, launcher, safe_point, notices, stacks,
        (resume, side) if resume and side else None, given.step,
    )
    opened.resume()
    if why:
        return opened, adapter, f"recording only, nobody is watching: {why}"
    guard = "watching only" if launching.mode_of(run, info) == "watch" else "guard on"
    return opened, adapter, f"run {run.name}, {guard}, watching loss, grad_norm · sitter attach"


def _say_doubts(core: Core, adapter: Adapter | None, elsewhere: str, doubts: list[str]) -> None:
    """To the user and the logbook."""
    if elsewhere:
        say(elsewhere)
        core.remark(elsewhere)
    if adapter is not None:
        with core.rail.around("looking over the training"):
            doubts += adapter.remarks()
    for text in doubts:
        say(text)
        core.remark(text, "warning")


def framework(given: Given) -> tuple[Adapter | None, list[str]]:
    """The adapter for what was given, None where nothing was; and what has to be said about it."""
    if given.model is None and given.optimizer is None:
        return None, []
    if "torch" not in sys.modules:
        return None, [
            "model or optimizer was given, and torch is not imported: use agent.state(save=…, load=…); NO state is covered now"
        ]
    try:
        from sitter_agent.frameworks.torch import TorchAdapter

        return TorchAdapter(given.model, given.optimizer, given.scheduler, given.scaler, given.extra), []
    except Exception as e:  # noqa: BLE001 — a model of a kind we do not know is recorded all the same
        return None, [f"the training state is NOT covered ({type(e).__name__}: {e}): nothing can be rolled back"]


def _safe_point(core: Core, commands: Commands, notices: Notices) -> SafePoint:
    if not os.environ.get("SITTER_DRILL"):
        return SafePoint(core, commands, notices)
    from sitter_agent.drill import DrilledSafePoint  # nobody else needs it

    return DrilledSafePoint(core, commands, notices).arm()


def _places(run: RunDir, info: Any) -> tuple[Endpoints | None, str]:
    try:
        return launching.endpoints(run, info), ""
    except (PlaceError, OSError) as e:
        return None, str(e)


def _link(
    core: Core, session: Session, recorder: Recorder, commands: Commands, places: Endpoints, stacks: StackFile,
    launcher: Launcher,
) -> Link:  # fmt: skip
    p = core.progress
    return Link(
        places, recorder, session, on_command=commands.take, version=VERSION, tend=launcher.tend,
        status=lambda: Status(p.done, p.micro, p.branch, p.safe_point_at, p.paused, p.phase, stacks.signal()),
    )  # fmt: skip


def _resume_from() -> tuple[Path | None, Sidecar | None, list[str]]:
    """``SITTER_RESUME``: checked whole before anything relies on it."""
    text = os.environ.get("SITTER_RESUME")
    if not text:
        return None, None, []
    path = Path(text).absolute()
    try:
        side = read_sidecar(path)
        check(path, side)
    except (DamagedError, OSError) as e:
        return None, None, [f"could NOT go on from {path}: {e}; the training begins anew"]
    return path, side, []


def _followed(core: Core, branch: int, step: int) -> int | None:
    """Cleared steps after a state on the present line, None where the daemon has not vouched for it."""
    clear = core.clear()
    if clear is None or not core.progress.on_line(branch, step):
        return None
    at, own = core.progress.place(clear[0]), core.progress.place(branch)
    if at is None or own is None or at < own or clear[1] < step:
        return None
    return clear[1] - step


def _tell(core: Core, text: str) -> None:
    """To the user and the logbook. Never raises."""
    say(text)
    with core.rail.around("a remark"):
        core.remark(text, "warning")


def _declined(daemon: bool) -> str:
    if os.environ.get("SITTER", "").lower() in ("off", "0", "no", "false"):
        return "SITTER=off"
    return "" if daemon else "start(daemon=False)"


def _not_the_agent() -> str:
    if sys.platform == "win32":
        return "native Windows is not supported; run the training under WSL2"
    if multiprocessing.parent_process() is not None:
        return "a worker process is not the training"
    rank = os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or "0"
    if rank.isdigit() and int(rank) > 0 and os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")) != "1":
        return f"rank {rank} leaves it to rank 0"
    return ""


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "train-sitter": VERSION}
    for name in ("torch", "numpy", "transformers", "lightning"):
        version = getattr(sys.modules.get(name), "__version__", None)
        if version is not None:
            found[name] = str(version)
    return found


def _gpus(model: Any) -> list[str]:
    """UUIDs of the GPUs that the model lies on."""
    torch = sys.modules.get("torch")
    found: dict[str, None] = {}
    with contextlib.suppress(Exception):
        if torch is None or not torch.cuda.is_initialized():  # a model on a GPU has; asking more would start its driver
            return []
        models = model.values() if isinstance(model, dict) else [model]
        for m in models:
            for parameter in getattr(m, "parameters", list)():
                if parameter.is_cuda:
                    found[f"GPU-{torch.cuda.get_device_properties(parameter.device).uuid}"] = None
                break
    return list(found)
