"""The nouns: values that are printed, stored, sent and compared. Frozen, no behaviour beyond reading themselves.

Times named ``time`` are unix seconds (wall clock of the daemon's host). ``None`` is "unknown", never 0.
"""

import math
from typing import Literal

import msgspec

from sitter_wire.commands import AnyAction

Severity = Literal["info", "warning", "critical"]
Mode = Literal["off", "watch", "ask", "act"]
Preset = Literal["watch", "guard", "act"]
State = Literal["starting", "running", "paused", "stalled", "hung", "crashed", "preempted", "finished", "stopped"]
Verdict = Literal["OK", "HEALING", "NEEDS YOU", "DEAD"]
EntryKind = Literal["finding", "proposal", "command", "outcome", "incident", "checkpoint", "note", "restart"]


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all of them."""


class Notification(Struct, frozen=True, tag="notify", tag_field="do"):
    """A daemon-side action: tell somebody. ``event`` is what notifiers are filtered by."""

    event: str
    text: str


class EndAndRestart(Struct, frozen=True, tag="restart", tag_field="do"):
    """A daemon-side action: SIGTERM, 30 s, SIGKILL, to a training that does not go on by itself; and it may be started again."""

    why: str = ""


Proposable = AnyAction | Notification | EndAndRestart


class Afterwards(Struct, frozen=True):
    """What is to follow a change of a knob; 0: nothing. ``warmup``: it goes to a small share of its new value first, and up to it within so
    many steps. ``back_after``: so many healthy steps in a row, and what was changed is given back."""

    warmup: int = 0
    back_after: int = 0


class Finding(Struct, frozen=True):
    """What a rule saw. ``onset`` is the first bad step; ``text`` one sentence for people, ``evidence`` the numbers.

    ``actions`` are what it proposes, in order (empty: only to be known). ``suspicious``: what happened since onset may be
    poisoned, so no snapshot is to be cleared past it. ``key`` names the trouble: what was vetoed
    is not proposed again under it. ``at``: its actions are for this step's safe point and none before it. ``afterwards``: of each
    knob that it changes.
    """

    rule: str
    severity: Severity
    step: int
    branch: int
    onset: int
    text: str
    evidence: dict[str, float | int | str | None] = {}
    actions: list[Proposable] = []
    key: str = ""
    suspicious: bool = False
    at: int | None = None
    afterwards: Afterwards | None = None


class Proposal(Struct, frozen=True):
    """A finding's actions, waiting. ``due``: unix seconds at which it is done unasked (None: waits for an answer). ``also``: what other
    rules have found that propose the same."""

    id: str
    finding: Finding
    made: float
    due: float | None = None
    also: list[Finding] = []

    def said(self) -> str:
        """What was found, by all of them."""
        return "; ".join([self.finding.text, *(f"and {finding.rule}: {finding.text}" for finding in self.also)])


class LogEntry(Struct, frozen=True):
    """One line of the logbook, as ``logbook --json`` gives it, plus its id."""

    id: int
    time: float
    kind: EntryKind
    step: int | None = None
    branch: int | None = None
    rule: str | None = None
    action: str | None = None
    status: str | None = None
    detail: str = ""


class CheckpointInfo(Struct, frozen=True):
    """A checkpoint. ``good``: enough healthy steps followed. ``path`` is absolute."""

    branch: int
    step: int
    path: str
    bytes: int
    good: bool
    verified: bool
    pinned: bool = False
    best: bool = False
    time: float | None = None
    sha256: str = ""


class Incident(Struct, frozen=True):
    """One trouble from onset to recovery. Times unix seconds; ``ended`` None while open."""

    id: int
    rule: str
    branch: int
    onset: int
    began: float
    text: str
    ended: float | None = None
    verdict: str | None = None
    steps_lost: int | None = None
    seconds_lost: float | None = None


class SignalNow(Struct, frozen=True):
    """The last value of a signal; ``last`` may be nan or ±inf."""

    last: float
    step: int
    time: float | None = None


class KnobNow(Struct, frozen=True):
    """A knob: ``scheduled × scale = effective``."""

    scheduled: float | None
    scale: float
    effective: float | None
    low: float | None
    high: float | None
    held: bool = False
    note: str = ""


class GoalNow(Struct, frozen=True):
    """The goal signal; ``best_step`` on the present line of branches."""

    name: str
    better: Literal["lower", "higher"]
    last: float | None = None
    best: float | None = None
    last_step: int | None = None
    best_step: int | None = None


class DaemonNow(Struct, frozen=True):
    """The daemon that answers."""

    pid: int
    version: str
    started: float | None = None


class AgentNow(Struct, frozen=True):
    """The agent. ``last_seen_s`` seconds since its last word (None: never); ``dropped`` records that could not be kept."""

    pid: int
    last_seen_s: float | None
    dropped: int
    session: str = ""
    version: str = ""


class Xid(Struct, frozen=True):
    """An error that the driver has reported of a GPU, by its number; ``time``: when it was heard."""

    code: int
    time: float


class GpuNow(Struct, frozen=True):
    """One GPU. Percent, bytes, °C, watts, MHz; None = the driver does not say. ``throttle``: reasons in words.

    ``energy`` in joules and ``ecc_errors`` (uncorrected) count from when the driver was loaded. ``xids``: the newest of those that this
    daemon has heard of.
    """

    index: int
    uuid: str
    name: str
    util: float | None = None
    mem_used: int | None = None
    mem_total: int | None = None
    temp: float | None = None
    power: float | None = None
    power_limit: float | None = None
    sm_clock: float | None = None
    throttle: list[str] = []
    note: str = ""
    used_by_run: bool | None = None
    energy: float | None = None
    ecc_errors: int | None = None
    xids: list[Xid] = []


class HostNow(Struct, frozen=True):
    """The machine as the run sees it (cgroup limits where there are any). Percent and bytes; ``cpus``: cores that the run may use."""

    cpu: float | None = None
    mem_used: int | None = None
    mem_total: int | None = None
    disk_free: int | None = None
    disk_total: int | None = None
    train_rss: int | None = None
    train_cpu: float | None = None
    gpu_note: str = ""
    cpus: float | None = None


class ExitNow(Struct, frozen=True):
    """How the training process ended. ``error``: a sentence where it could not be started, or ended at once.

    ``log``: where its output lies in train.log; ``oom_kills``: how many processes of its cgroup the kernel killed for memory meanwhile.
    ``told``: the signal by which its parent was told to end. ``mono``: monotonic seconds of ``time``, since this ``boot``. With restarts:
    how many ``attempts``, why there is no other (``given_up``), whether the operator ``called_off`` one."""

    code: int | None
    signal: int | None
    time: float | None = None
    error: str = ""
    pid: int | None = None
    started: float | None = None
    log: tuple[int, int] | None = None
    oom_kills: int | None = None
    told: str = ""
    mono: float | None = None
    boot: str | None = None
    attempts: int = 1
    given_up: str = ""
    called_off: bool = False


class RestartNow(Struct, frozen=True):
    """A restart being prepared: the ``number``-th ``of`` so many. ``at``: unix seconds (None: not known yet); ``said``: from what."""

    number: int
    of: int
    at: float | None = None
    said: str = ""

    def in_words(self, now: float) -> str:
        """``restarting in 0:20 (2 of 5)``. ``now``: unix seconds."""
        left = 0 if self.at is None else max(0, math.ceil(self.at - now))
        return f"restarting{f' in {left // 60}:{left % 60:02d}' if left else ''} ({self.number} of {self.of})"


class IncidentCount(Struct, frozen=True):
    """How many."""

    open: int
    total: int


class Status(Struct, frozen=True):
    """``sitter status --json`` (contract), and what the TUI needs beyond it (from ``directory`` on)."""

    run: str
    verdict: Verdict
    state: State
    step: int | None
    micro: int | None
    branch: int | None
    total: int | None
    ends_at: float | None
    mode: Preset
    watching: list[str]
    goal: GoalNow | None
    daemon: DaemonNow | None
    agent: AgentNow | None
    signals: dict[str, SignalNow]
    knobs: dict[str, KnobNow]
    gpus: list[GpuNow]
    proposals: list[Proposal]
    checkpoints: list[CheckpointInfo]
    incidents: IncidentCount
    exit: ExitNow | None
    directory: str = ""
    host: HostNow | None = None
    started: float | None = None
    steps_per_s: float | None = None
    data_wait: float | None = None
    slope_per_k: float | None = None
    blind: str = ""
    warnings: list[str] = []
    epoch: float | None = None
    epochs: int | None = None
    log_id: int = 0
    restart: RestartNow | None = None


class Marker(Struct, frozen=True):
    """Something to draw on a curve at ``x`` (in the curve's axis)."""

    x: float
    kind: Literal["checkpoint", "knob", "incident", "restore", "restart", "note"]
    text: str = ""


class Curve(Struct, frozen=True):
    """A signal in columns: parallel lists; ``x`` in the axis asked for, NaN in all three where a column is empty.

    ``lost`` lists the columns' x with non-finite values. ``abandoned``: a stretch that a restore left behind.
    """

    signal: str
    x: list[float]
    low: list[float]
    high: list[float]
    mean: list[float]
    lost: list[float] = []
    abandoned: bool = False


class Curves(Struct, frozen=True):
    """Answer to GetCurves."""

    curves: list[Curve]
    markers: list[Marker]
    lo: float
    hi: float


class DayRow(Struct, frozen=True):
    """One day of ``sitter days``. ``gpu_idle`` is a share, ``rate`` steps/s, ``slope_per_k`` loss per 1,000 steps."""

    day: str
    steps: int
    loss: float | None
    goal: float | None
    slope_per_k: float | None
    rate: float | None
    lr: float | None
    actions: int
    gpu_idle: float | None


class Since(Struct, frozen=True):
    """What happened since the operator last looked. Values as (then, now) pairs."""

    seconds: float
    steps: int
    loss: tuple[float | None, float | None]
    goal: tuple[float | None, float | None]
    goal_name: str | None
    incidents: int
    healed: int
    steps_lost: int
    gpu_idle: float | None
    ends_at: float | None


class RuleState(Struct, frozen=True):
    """A rule in this run. ``budget``: how many actions are left in the rolling window (None: unlimited)."""

    name: str
    title: str
    guard: bool
    mode: Mode
    effective: Mode
    params: dict[str, float | int | str | bool | list[str] | None]
    findings: int = 0
    last_step: int | None = None
    last_text: str = ""
    snoozed_until: float | None = None
    limit: str = ""
    left: int | None = None
    delay: float | None = None
    doc: str = ""
    broken: str = ""
    """Why it is switched off: it raised. Empty: it works."""


class Answered(Struct, frozen=True):
    """Answer to a demand. ``status`` as the agent said it, or ``unanswered``; exit code 0 only for ``applied``.

    ``step``: where the training was when the agent answered; None where the daemon answered itself.
    """

    status: Literal["applied", "rejected", "expired", "unanswered"]
    text: str
    detail: dict[str, float | int | str | bool | list[str] | None] = {}
    step: int | None = None
