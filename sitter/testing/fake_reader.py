"""A reader without a daemon: answers every query from a made-up run, so that screens can be tried and tested."""

import threading
from typing import Any

from sitter import grammar, model
from sitter.clock import Clock, SystemClock
from sitter.errors import DaemonError, UsageError
from sitter.testing import fake_run
from sitter_wire import commands, queries

STEPS_PER_S = 2.4
GIB = 1 << 30


class FakeReader:
    """Has the ``ask`` of ``sitter.client.Client``. Safe from several threads.

    ``lost`` True: every question raises DaemonError, as if the daemon were gone. ``answer``: what the next actions are answered,
    instead of being done. ``empty``: a run without a single step. ``asked`` keeps every query. ``directory`` may hold a train.log.
    """

    def __init__(
        self, clock: Clock | None = None, *, step: int = 12_340, steps_per_s: float = STEPS_PER_S, empty: bool = False, directory: str = "",
    ) -> None:  # fmt: skip
        self.clock: Clock = clock or SystemClock()
        self.empty, self.directory, self.steps_per_s = empty, directory, steps_per_s
        self.lost = False
        self.answer: model.Answered | None = None
        self.asked: list[queries.AnyQuery] = []
        self.extra_signals: list[str] = []
        self._lock = threading.Lock()
        self._lr_scale = fake_run.LrScale()
        now = self.clock.wall()
        self._began = now - step / self.steps_per_s
        self._at, self._since = float(step), now
        self._state: model.State = "starting" if empty else "running"
        self._branch = 0 if empty else 1
        self._mode: model.Preset = "guard"
        self._markers = [] if empty else fake_run.past_markers()
        self._checkpoints = [] if empty else _checkpoints(now, step, self.steps_per_s)
        self._entries: list[model.LogEntry] = []
        self._snoozed: dict[str, float] = {}
        self._proposals = [] if empty else [_proposal(now, step)]
        if not empty:
            self._story(now, step)

    # what the daemon answers

    def ask(self, query: queries.AnyQuery, timeout: float = 5.0) -> Any:
        """The typed reply. Raises DaemonError while ``lost``, UsageError where the question is wrong."""
        with self._lock:
            self.asked.append(query)
            if self.lost:
                raise DaemonError("no daemon answers for run char-lm; `sitter attach` starts one")
            self._settle()
            match query:
                case queries.GetStatus():
                    return self._status()
                case queries.GetCurves():
                    return self._curves(query)
                case queries.GetLogbook():
                    return [e for e in self._entries if e.id > query.after][-query.limit :]
                case queries.GetRules():
                    return self._rules()
                case queries.GetSince():
                    return self._what_happened(query.since)
                case queries.GetDays():
                    return []
                case _:
                    return self._demand(query)

    @property
    def step(self) -> int:
        """The present step."""
        if self._state != "running":
            return int(self._at)
        return min(fake_run.TOTAL, int(self._at + (self.clock.wall() - self._since) * self.steps_per_s))

    def _settle(self) -> None:
        """Do what fell due."""
        for proposal in list(self._proposals):
            if proposal.due is not None and proposal.due <= self.clock.wall():
                self._proposals.remove(proposal)
                for action in proposal.finding.actions:
                    if not isinstance(action, model.Notification):
                        self._apply(action)
        if self.step >= fake_run.TOTAL:
            self._hold("finished")

    def _hold(self, state: model.State) -> None:
        self._at, self._since = float(self.step), self.clock.wall()
        self._state = state

    def _status(self) -> model.Status:
        now, step = self.clock.wall(), self.step
        verdict: model.Verdict = "NEEDS YOU" if any(p.due is None for p in self._proposals) else "OK"
        if self._proposals and verdict == "OK":
            verdict = "HEALING"
        done = self._state in ("finished", "stopped")
        scale = self._lr_scale.at(step)
        lr = fake_run.scheduled_lr(step)
        known = {} if self.empty else {
            name: model.SignalNow(last=fake_run.value(name, step, scale), step=step, time=now)
            for name in (*fake_run.SIGNALS, *self.extra_signals)
        }  # fmt: skip
        last_val = step // 250 * 250
        return model.Status(
            run="char-lm", verdict=verdict, state=self._state, step=None if self.empty else step,
            micro=None if self.empty else step * 4, branch=self._branch, total=fake_run.TOTAL,
            ends_at=None if self.empty or self._state != "running" else now + (fake_run.TOTAL - step) / self.steps_per_s,
            mode=self._mode,
            watching=[] if self.empty else ["loss", "grad_norm"],
            goal=model.GoalNow(name="val_loss", better="lower") if self.empty else model.GoalNow(
                name="val_loss", better="lower", last=fake_run.value("val_loss", last_val),
                best=fake_run.level("val_loss", last_val) - 0.002, last_step=last_val, best_step=last_val - 250),
            daemon=model.DaemonNow(pid=4711, version="0.1.0", started=self._began),
            agent=model.AgentNow(pid=4712, last_seen_s=0.3, dropped=0, session="7f3a"),
            signals=known,
            knobs={} if self.empty else {
                "lr": model.KnobNow(scheduled=lr, scale=scale, effective=lr * scale, low=fake_run.LOW, high=fake_run.HIGH),
                "weight_decay": model.KnobNow(scheduled=0.1, scale=1.0, effective=0.1, low=1e-3, high=0.3),
            },
            gpus=[_gpu(int(now))], proposals=list(self._proposals), checkpoints=list(self._checkpoints),
            incidents=model.IncidentCount(open=len(self._proposals), total=0 if self.empty else 2),
            exit=model.ExitNow(code=0, signal=None, time=now) if done else None, directory=self.directory,
            host=model.HostNow(cpu=31.0, mem_used=21 * GIB, mem_total=64 * GIB, disk_free=212 * GIB, disk_total=512 * GIB,
                               train_rss=6 * GIB, train_cpu=104.0),
            started=self._began, steps_per_s=self.steps_per_s if self._state == "running" and not self.empty else None,
            data_wait=None if self.empty else 0.03, slope_per_k=None if self.empty else -0.011,
            blind="no loss signal" if self.empty else "", epoch=None if self.empty else step / fake_run.PER_EPOCH, epochs=8,
            log_id=len(self._entries),
        )  # fmt: skip

    def _curves(self, query: queries.GetCurves) -> model.Curves:
        step = self.step
        per_x = 1 / self.steps_per_s / 3600 if query.axis == "hours" else 1.0
        lo = max(0.0, query.lo / per_x if query.lo is not None else 0.0)
        hi = min(float(step), query.hi / per_x if query.hi is not None else step)
        if self.empty or hi <= lo:
            return model.Curves(curves=[], markers=[], lo=0.0, hi=1.0)
        out = []
        for name in query.signals:
            if name not in fake_run.SIGNALS and name not in self.extra_signals:
                continue
            out.append(fake_run.curve(name, lo, hi, query.columns, per_x, self._lr_scale))
            if query.abandoned and name == "loss" and lo < fake_run.NAN_BACK_TO < hi:
                out.append(fake_run.curve(name, fake_run.NAN_BACK_TO, fake_run.NAN_AT + 3, 8, per_x, self._lr_scale, abandoned=True))
        markers = [model.Marker(x=m.x * per_x, kind=m.kind, text=m.text) for m in self._markers if lo <= m.x <= hi]
        return model.Curves(curves=out, markers=markers, lo=lo * per_x, hi=hi * per_x)

    def _rules(self) -> list[model.RuleState]:
        return [_rule(*row, snoozed=self._snoozed.get(row[0])) for row in _RULES]

    def _what_happened(self, since: float) -> model.Since:
        seconds = self.clock.wall() - since
        steps = min(self.step, int(seconds * self.steps_per_s))
        then, now = self.step - steps, self.step
        return model.Since(
            seconds=seconds, steps=steps, loss=(fake_run.level("loss", then), fake_run.level("loss", now)),
            goal=(fake_run.level("val_loss", then), fake_run.level("val_loss", now)), goal_name="val_loss", incidents=1, healed=1,
            steps_lost=34, gpu_idle=0.004, ends_at=self.clock.wall() + (fake_run.TOTAL - now) / self.steps_per_s,
        )  # fmt: skip

    # what it does

    def _demand(self, query: queries.AnyQuery) -> model.Answered:
        if self.answer is not None:
            return self.answer
        match query:
            case queries.Act():
                return self._apply(query.action)
            case queries.StopNow():
                return self._apply(commands.Stop())
            case queries.Approve() | queries.Veto():
                return self._decide(query)
            case queries.Snooze():
                if query.rule not in {row[0] for row in _RULES}:
                    raise UsageError(f"no rule is named {query.rule!r}; `rules list` shows them")
                self._snoozed[query.rule] = self.clock.wall() + query.seconds
            case queries.SetMode():
                self._mode = query.mode
            case queries.AddNote():
                self._write("note", detail=query.text)
                self._markers.append(model.Marker(x=self.step, kind="note", text=query.text))
            case _:
                pass
        return model.Answered(status="applied", text=grammar.demand_in_words(query))

    def _decide(self, query: queries.Approve | queries.Veto) -> model.Answered:
        found = next((p for p in self._proposals if p.id == query.id), None)
        if found is None:
            raise UsageError(f"no proposal {query.id!r} waits")
        self._proposals.remove(found)
        if isinstance(query, queries.Veto):
            self._write("proposal", rule=found.finding.rule, status="vetoed", detail=found.finding.text)
            return model.Answered(status="applied", text=f"{found.finding.rule}: vetoed, nothing done")
        actions = [a for a in found.finding.actions if not isinstance(a, model.Notification)]
        return [self._apply(action) for action in actions][-1]

    def _apply(self, action: commands.AnyAction | model.EndAndRestart) -> model.Answered:
        step = self.step
        match action:
            case commands.SetKnob():
                done = self._set(action, step)
            case commands.Rollback():
                done = self._roll_back(action, step)
            case commands.TakeCheckpoint():
                self._checkpoints.insert(0, _checkpoint(self._branch, step, self.clock.wall(), good=False))
                self._markers.append(model.Marker(x=step, kind="checkpoint", text=f"checkpoint {step:,}"))
                done = _applied(step, f"checkpoint {step:,} written and verified")
            case commands.Pause():
                self._hold("paused")
                done = _applied(step, "paused")
            case commands.Unpause():
                self._hold("running")
                done = _applied(step, "goes on")
            case commands.Stop():
                self._hold("stopped")
                done = _applied(step, "stopped")
            case model.EndAndRestart():
                self._hold("crashed")
                done = _applied(step, "ended by the rule, to be started again")
            case _:
                done = _applied(step, grammar.in_words(action))
        self._write("outcome", action=grammar.in_words(action), status=done.status, detail=done.text)
        return done

    def _set(self, action: commands.SetKnob, step: int) -> model.Answered:
        if action.knob != "lr":
            return model.Answered(status="rejected", text=f"{action.knob} is fixed in this run")
        old = fake_run.scheduled_lr(step) * self._lr_scale.at(step)
        new = old * action.amount if action.op == "scale" else action.amount
        if not fake_run.LOW <= new <= fake_run.HIGH:
            return model.Answered(status="rejected", text=f"lr {new:g} is outside {fake_run.LOW:g} to {fake_run.HIGH:g}")
        self._lr_scale.set(step, new / fake_run.scheduled_lr(step))
        self._markers.append(model.Marker(x=step, kind="knob", text=grammar.in_words(action)))
        return _applied(step, f"lr {old:.3g} → {new:.3g}")

    def _roll_back(self, action: commands.Rollback, step: int) -> model.Answered:
        bound = action.to if action.to is not None else action.before if action.before is not None else step
        target = next((c.step for c in self._checkpoints if c.good and c.step <= bound), None)
        if target is None or (action.to is not None and target != action.to):
            return model.Answered(status="rejected", text=f"no state of step {bound:,} is kept")
        self._markers.append(model.Marker(x=target, kind="restore", text=f"back to {target:,}"))
        self._at, self._since = float(target), self.clock.wall()
        self._branch += 1
        return _applied(step, f"back to {target:,}, {step - target:,} steps lost")

    def _write(self, kind: model.EntryKind, *, ago: float = 0.0, step: int | None = None, rule: str | None = None,
               action: str | None = None, status: str | None = None, detail: str = "") -> None:  # fmt: skip
        at = self.step if step is None else step
        self._entries.append(model.LogEntry(
            id=len(self._entries) + 1, time=self.clock.wall() - ago, kind=kind, step=at, branch=self._branch, rule=rule, action=action,
            status=status, detail=detail,
        ))  # fmt: skip

    def _story(self, now: float, step: int) -> None:
        for kind, at, rule, status, detail in _STORY:
            if at <= step:
                self._write(kind, ago=(step - at) / self.steps_per_s, step=at, rule=rule, status=status, detail=detail)


_STORY: list[tuple[model.EntryKind, int, str | None, str | None, str]] = [
    ("checkpoint", 5_800, None, None, "checkpoint 5,800 verified; good after 200 healthy steps"),
    ("finding", 6_210, "non-finite", "critical", "loss is nan since 6,210"),
    ("command", 6_211, "non-finite", None, "back to 6,208 or before, batches go on"),
    ("outcome", 6_213, None, "applied", "back to 6,180 in 41 ms: weights, optimizer, scheduler, RNG"),
    ("incident", 6_213, "non-finite", "recovered", "33 steps lost; the batch was at fault, gone with it"),
    ("note", 8_950, None, None, "plateau since yesterday, trying half the rate"),
    ("outcome", 9_000, None, "applied", "lr 4.2e-4 → 2.1e-4"),
    ("checkpoint", 9_800, None, None, "checkpoint 9,800 verified; good after 200 healthy steps"),
    ("checkpoint", 11_800, None, None, "checkpoint 11,800 verified; good after 200 healthy steps"),
    ("finding", 11_868, "spike", "warning", "spike at 11,868, gone after 2 steps: nothing done"),
]

_Row = tuple[str, str, bool, model.Mode, int, str, str]
_RULES: list[_Row] = [
    ("non-finite", "loss or gradient is nan or inf", True, "act", 1, "loss is nan since 6,210", "3 per hour"),
    ("spike", "loss or gradient far above its usual level", True, "act", 2, "loss 11 × its usual level at 12,301", "3 per hour"),
    ("rate-off", "the rate is not what it should be", True, "act", 0, "", "3 per hour"),
    ("checkpoint", "a checkpoint now and then", False, "act", 5, "", ""),
    ("gpu-idle", "the GPU waits", False, "watch", 0, "", ""),
    ("gpu-hot", "the GPU is hot or throttled", False, "watch", 0, "", ""),
    ("gpu-memory", "GPU memory nearly full", False, "ask", 0, "", ""),
    ("disk-full", "the disk is nearly full", False, "ask", 0, "", ""),
    ("stalled", "no progress", False, "ask", 0, "", ""),
]


def _rule(name: str, title: str, guard: bool, mode: model.Mode, findings: int, text: str, limit: str, *,
          snoozed: float | None) -> model.RuleState:  # fmt: skip
    return model.RuleState(
        name=name, title=title, guard=guard, mode=mode, effective=mode, params={"z": 8.0} if guard else {}, findings=findings,
        last_step=12_301 if text else None, last_text=text, snoozed_until=snoozed, limit=limit, left=2 if limit else None,
        delay=60.0 if name == "spike" else None, doc=f"{title.capitalize()}.",
    )  # fmt: skip


def _applied(step: int, text: str) -> model.Answered:
    return model.Answered(status="applied", text=text, step=step)


def _checkpoint(branch: int, step: int, time: float, *, good: bool, best: bool = False) -> model.CheckpointInfo:
    return model.CheckpointInfo(branch=branch, step=step, path=f"/runs/char-lm/checkpoints/{step}-{branch}.pt", bytes=1_450_000_000,
                                good=good, verified=True, best=best, time=time)  # fmt: skip


def _checkpoints(now: float, step: int, rate: float) -> list[model.CheckpointInfo]:
    return [
        _checkpoint(1 if s > fake_run.NAN_BACK_TO else 0, s, now - (step - s) / rate, good=True, best=s == 9_800)
        for s in (11_800, 9_800, 5_800) if s <= step
    ]  # fmt: skip


def _gpu(second: int) -> model.GpuNow:
    return model.GpuNow(
        index=0, uuid="GPU-5f3c", name="NVIDIA H100 80GB HBM3", util=round(86 + 8 * fake_run.noise(second)), mem_used=58 * GIB,
        mem_total=80 * GIB, temp=56.0, power=649.0, power_limit=700.0, sm_clock=1755.0, throttle=["power cap"], used_by_run=True,
    )  # fmt: skip


def _proposal(now: float, step: int) -> model.Proposal:
    finding = model.Finding(
        rule="spike", severity="critical", step=step, branch=1, onset=12_301, text="loss 11 × its usual level since 12,301",
        evidence={"z": 31.2, "median": 1.52}, actions=[commands.Rollback(before=12_280)],
    )  # fmt: skip
    return model.Proposal(id="p1", finding=finding, made=now, due=now + 60)


