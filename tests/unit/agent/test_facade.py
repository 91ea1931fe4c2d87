"""What the script sees: one line, the same results with us, without us, and with us broken in any way."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import sitter_agent
from sitter_agent.agent import Agent
from sitter_agent.guard_rail import FAILURES_ALLOWED
from sitter_agent.launcher import Launcher, is_held
from sitter_wire.commands import Stop
from sitter_wire.events import GoodBye, KnobDeclared, Remark, SessionStart
from sitter_wire.places import RunDir
from tests.unit.agent.conftest import Quadratic, Run, until

ROOT = Path.cwd()


def train(agent, total=50):
    """Every public call once or more, and the bits that come of it."""
    np.random.seed(7)
    model = Quadratic().known_to(agent)
    agent.on_restore(lambda step: None)
    seen = []
    for step, batch in agent.loop([np.full(32, 0.1), np.full(32, 0.2)], total=total):
        loss = model.step(batch + 0.01 * np.random.normal(size=32))
        agent.log(loss=loss, other=1)
        agent.log({"train/acc": np.float32(0.5)})
        agent.safe_point()
        seen.append((step, agent.step, agent.micro))
    for epoch in agent.epochs(2):
        for batch in agent.batches([np.full(32, 0.3)]):
            agent.log(loss=model.step(batch), epoch=epoch)
    seen += list(agent.steps(total + 5))
    agent.close()
    return model.w.tobytes(), np.random.random(), seen


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """What comes of it where nothing is recorded at all."""
    return train(Agent(None, None))


# -- never hurt the training -------------------------------------------------------------------------------------------------


def test_with_us_the_result_is_the_same_to_the_bit(begin, plain):
    agent = begin()
    assert agent.recording
    assert train(agent) == plain


def broken_recorder(agent):
    def fail(*a, **k):
        raise RuntimeError("recorder")

    agent._core.recorder.log = fail
    agent._core.recorder.event = fail


def broken_link(agent):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("link")

    agent._core.link.close()
    agent._core.link = Broken()


def broken_disk(agent):
    import shutil

    shutil.rmtree(agent.run)


def broken_snapshots(agent):
    def fail(*a, **k):
        raise MemoryError("no memory")

    agent._core.ring.take = agent._core.ring.due = agent._core.ring.prepare = fail


def broken_vault(agent):
    agent._core.vault.describe = agent._core.vault.close = lambda *a: 1 / 0


def broken_state(agent):
    def fail():
        raise OSError("save")

    register = agent._core.generic.register
    agent._core.generic.register = lambda save, load: register(fail, load)


def broken_clock(agent):
    def fail():
        raise OSError("clock")

    agent._core.clock = fail


def broken_adapter(agent):
    agent._core.adapter.sample = lambda step: 1 / 0
    agent._core.adapter.nbytes = lambda: 1 / 0


def broken_random(agent):
    from sitter_agent import rng

    agent._core.ring.hold = agent._core.ring.release = lambda s: 1 / 0
    assert rng


def switched_off(agent):
    agent._core.rail.on = False


@pytest.mark.parametrize(
    "breaking",
    [broken_recorder, broken_link, broken_disk, broken_snapshots, broken_vault, broken_state, broken_clock, broken_adapter, broken_random,
     switched_off],
)  # fmt: skip
def test_with_us_broken_the_result_is_the_same_to_the_bit(begin, plain, breaking):
    agent = begin()
    breaking(agent)
    assert train(agent) == plain


def test_a_broken_generator_read_out_does_not_change_the_batches(begin, plain, monkeypatch):
    from sitter_agent import rng

    agent = begin()
    monkeypatch.setattr(rng, "capture", lambda: 1 / 0)
    assert train(agent) == plain


@pytest.mark.parametrize("where", ["a file in its place", "not writable", "runtime directory of somebody else's"])
def test_start_never_raises_and_says_so(begin, plain, tmp_path, monkeypatch, capsys, where):
    if where == "a file in its place":
        (tmp_path / "sitter-runs").write_text("")
    elif where == "not writable":
        monkeypatch.setenv("SITTER_RUN", "/proc/nothing")
    else:
        (tmp_path / "open").mkdir(mode=0o777)
        (tmp_path / "open").chmod(0o777)
        monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path / "open"))
    agent = begin()
    assert train(agent) == plain
    line = capsys.readouterr().err.splitlines()[0]
    assert re.match(r"sitter: recording (nothing|only), nobody is watching: ", line)


def test_the_loop_ends_at_the_same_step_where_nothing_is_recorded(begin, monkeypatch):
    """With gradient accumulation ``total`` counts optimizer steps; counting turns instead would end it four times too early."""

    class Adapter:
        n = 0

        def steps_done(self):
            return self.n

    adapter = Adapter()
    agent = Agent(None, adapter)
    turns = 0
    for _ in agent.loop(range(1000), total=5):
        turns += 1
        adapter.n += turns % 4 == 0
    assert (turns, agent.step) == (20, 5)


def test_a_failing_step_count_makes_every_turn_a_step(begin):
    agent = begin()
    agent._core.generic.steps_done = lambda: 1 / 0
    assert list(agent.steps(3)) == [0, 1, 2]


def test_what_is_no_number_is_said_once_and_costs_nothing_else(begin, capsys):
    agent = begin()
    for _ in agent.steps(3):
        agent.log(loss=1.0, text="abc", many=np.zeros(3))
    assert [v for _, v in Run(agent.run).values("loss")] == [1.0] * 3
    err = capsys.readouterr().err
    assert "text is not a number" in err
    assert "many is not a number" in err or err.count("further ones") == 1


# -- what is recorded ----------------------------------------------------------------------------------------------------------


def test_one_line_at_start(begin, capsys, monkeypatch):
    monkeypatch.setenv("SITTER", "off")
    agent = begin(name="1120-char-lm", daemon=True)
    assert capsys.readouterr().err == "sitter: recording only, nobody is watching: SITTER=off\n"
    agent.close()
    monkeypatch.delenv("SITTER")
    agent = begin(name="1120-char-lm")
    assert capsys.readouterr().err == "sitter: recording only, nobody is watching: start(daemon=False)\n"
    assert Path(agent.run).name == "1120-char-lm-2"


def test_a_session_begins_with_what_it_is(begin):
    agent = begin(goal="val/loss", kind="gan", total=100)
    start = Run(agent.run).events()[0]
    assert isinstance(start, SessionStart)
    assert (start.pid, start.goal, start.better, start.kind, start.total, start.branch) == (
        os.getpid(),
        "val_loss",
        "lower",
        "gan",
        100,
        0,
    )
    assert start.versions["numpy"] == np.__version__


@pytest.mark.parametrize(("said", "known"), [(None, ""), ("supervised", "supervised"), ("GAN", "")])
def test_a_kind_is_only_said_where_the_script_says_one_that_there_is(begin, capsys, said, known):
    start = Run(begin(kind=said).run).events()[0]
    assert start.kind == known
    assert ("is none of supervised, rl, gan" in capsys.readouterr().err) is bool(said and not known)


def test_the_names_that_people_use_are_understood(begin):
    agent = begin()
    for _ in agent.steps(1):
        agent.log(train_loss=1.0)
        agent.log({"val/loss": 2.0, "loss": 3.0, "train/loss": 4.0})
        agent.log(eval_loss=5.0)
    run = Run(agent.run)
    assert run.values("loss") == [(0, 1.0), (0, 3.0)]
    assert run.values("val_loss") == [(0, 2.0), (0, 5.0)]
    assert run.values("train/loss") == [(0, 4.0)]


def test_values_are_in_the_file_when_log_returns(begin):
    agent = begin()
    agent.log(step=7, loss=1.5)
    assert Run(agent.run).values("loss") == [(7, 1.5)]


def test_knobs_are_declared_and_their_value_is_a_signal(begin):
    agent = begin()
    train(agent, total=3)
    run = Run(next(Path("sitter-runs").iterdir()))
    assert run.events(KnobDeclared)[0].spec.name == "lr"
    assert run.values("lr")[:3] == [(0, 0.1), (1, 0.1), (2, 0.1)]


def test_a_knob_that_makes_no_sense_is_said_and_left_out(begin, capsys):
    agent = begin()
    agent.knob("lr", get=lambda: 0.1, set=print, low=0.0, high=1.0, scale="log")
    agent.knob("wd", get=lambda: 1 / 0, set=print, low=0.0, high=1.0)
    err = capsys.readouterr().err
    assert "a log scale needs a lower bound above 0" in err
    assert agent._core.free_knobs == {}


def test_own_steps_are_counted_where_the_script_does_not_say_them(begin):
    agent = begin()
    for _ in range(3):
        agent.log(loss=1.0)
        agent.safe_point()
    run = Run(agent.run)
    assert [s for s, _ in run.values("loss")] == [0, 1, 2]
    assert [s for s, _ in run.values("step_time")] == [0, 1, 2]


def test_start_again_ends_the_first_session_and_opens_another(begin):
    first = begin()
    run = Run(first.run)
    second = begin()
    assert sitter_agent.current() is second
    assert run.events(GoodBye) == [GoodBye(how="closed")]
    assert not first.recording
    assert second.recording
    assert [step for step in first.steps(3)] == [0, 1, 2]
    assert first.run is None


def test_a_second_process_in_the_same_run_stays_disabled(begin, monkeypatch):
    agent = begin()
    code = "import sitter_agent; a = sitter_agent.start(daemon=False); print(a.recording, list(a.steps(2)))"
    env = {**os.environ, "SITTER_RUN": agent.run}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "False [0, 1]\n"
    assert re.fullmatch(
        rf"sitter: recording nothing here: another process \(pid {os.getpid()}\) is the agent of .*\n", done.stderr
    )


def test_other_ranks_leave_it_to_rank_0(begin, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not begin().recording
    assert "rank 3 leaves it to rank 0" in capsys.readouterr().err
    assert not Path("sitter-runs").exists()


# -- processes -----------------------------------------------------------------------------------------------------------------


def script(tmp_path, body):
    path = tmp_path / "train.py"
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport numpy as np\nimport sitter_agent\n"
        f"from tests.unit.agent.conftest import Quadratic\n{textwrap.dedent(body)}"
    )
    return path


def run_script(tmp_path, body, **kwargs):
    command = [sys.executable, str(script(tmp_path, body))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, **kwargs)
    runs = sorted((tmp_path / "sitter-runs").iterdir())
    return done, Run(runs[0])


def test_at_exit_it_says_good_bye_by_itself(tmp_path):
    done, run = run_script(
        tmp_path, "a = sitter_agent.start(daemon=False)\nfor s in a.steps(5): a.log(loss=1.0)\nprint('end')"
    )
    assert (done.returncode, done.stdout) == (0, "end\n")
    assert run.events(GoodBye) == [GoodBye(how="total")]


def test_an_exception_of_the_script_ends_it_as_ever(tmp_path):
    done, run = run_script(
        tmp_path, "a = sitter_agent.start(daemon=False)\nfor s in a.steps(5):\n    a.log(loss=1.0)\n    1 / 0"
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert run.events(GoodBye) == [GoodBye(how="left early"), GoodBye(how="crashed", why="ZeroDivisionError: division by zero")]
    assert run.values("loss") == [(0, 1.0)]


@pytest.mark.parametrize(("end", "last"), [
    ("1 / 0", "crashed"), ("sys.exit()", ""), ("sys.exit(1)", ""), ("raise KeyboardInterrupt", ""),
    ("try: 1 / 0\nexcept ZeroDivisionError: pass", ""),
])
def test_what_comes_after_the_loop_may_be_an_exception_too(tmp_path, end, last):
    _, run = run_script(tmp_path, f"a = sitter_agent.start(daemon=False)\nfor s in a.steps(5): a.log(loss=1.0)\n{end}")
    assert [e.how for e in run.events(GoodBye)] == ["total", *([last] if last else [])]


def test_what_was_logged_survives_a_kill(tmp_path):
    path = script(tmp_path, """
        a = sitter_agent.start(daemon=False)
        for s in a.steps(10**9):
            a.log(loss=float(s))
            print(s, flush=True)
    """)  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(path)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    for _ in range(100):
        last = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    run = Run(next((tmp_path / "sitter-runs").iterdir()))
    losses = run.values("loss")
    assert losses[: last + 1] == [(s, float(s)) for s in range(last + 1)]
    assert run.events(GoodBye) == []


def test_a_forked_child_records_nothing_and_its_loops_go_on(tmp_path):
    done, run = run_script(tmp_path, """
        import os
        a = sitter_agent.start(daemon=False)
        model = Quadratic().known_to(a)
        for step, batch in a.loop([np.zeros(32)], total=6):
            a.log(loss=model.step(batch))
            if step == 2:
                pid = os.fork()
                if pid == 0:
                    rest = []
                    for s in a.steps(9):
                        a.log(loss=-1.0)
                        a.safe_point()
                        rest.append(s)
                    a.close()
                    print("child", a.recording, rest[0], rest[-1], flush=True)
                    os._exit(0)
                os.waitpid(pid, 0)
        print("parent", a.recording)
    """)  # fmt: skip
    assert done.stdout == "child False 2 8\nparent True\n", done.stderr
    assert [s for s, _ in run.values("loss")] == list(range(6))
    assert all(v >= 0 for _, v in run.values("loss"))
    assert run.events(GoodBye) == [GoodBye(how="total")]


def test_a_forked_worker_dies_by_sigterm_at_once(tmp_path):
    done, _ = run_script(tmp_path, """
        import multiprocessing, time
        codes = set()
        a = sitter_agent.start(daemon=False)
        for s in a.steps(2):
            if s == 1:
                ctx = multiprocessing.get_context("fork")
                for _ in range(40):
                    p = ctx.Process(target=time.sleep, args=(600,))
                    p.start()
                    p.terminate()
                    p.join(60)
                    codes.add(p.exitcode)
        print(codes)
    """)  # fmt: skip
    assert done.stdout == "{-15}\n", done.stderr


def test_sigterm_with_a_handler_of_the_scripts_own(tmp_path):
    """The checkpoint comes first, then the script's handler, and the training goes on if that lets it."""
    done, run = run_script(tmp_path, """
        import os, signal
        got = []
        signal.signal(signal.SIGTERM, lambda n, f: got.append(n))
        a = sitter_agent.start(daemon=False)
        model = Quadratic().known_to(a)
        for step, batch in a.loop([np.zeros(32)], total=20):
            a.log(loss=model.step(batch))
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
                assert got == []
            if step == 6:
                assert got == [15]
        print(step, got)
        a.close()
        assert signal.getsignal(signal.SIGTERM).__name__ == "<lambda>"
    """)  # fmt: skip
    assert done.stdout == "19 [15]\n", done.stderr
    assert [p.name for p in run.dir.checkpoints.iterdir() if p.suffix == ".npz"] == ["6-0.npz"]


def test_sigterm_outside_of_any_loop_goes_straight_on(tmp_path):
    done, _ = run_script(tmp_path, """
        import os, signal
        a = sitter_agent.start(daemon=False)
        os.kill(os.getpid(), signal.SIGTERM)
        print("not reached")
    """)  # fmt: skip
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


def test_an_exception_of_the_scripts_alarm_passes_through_our_code(tmp_path):
    """A time-out that a script sets by SIGALRM may strike in the midst of ours: it must not be swallowed there."""
    done, _ = run_script(tmp_path, """
        import signal, time
        class Late(Exception): pass
        def late(n, f): raise Late
        signal.signal(signal.SIGALRM, late)
        a = sitter_agent.start(daemon=False)
        model = Quadratic(n=100).known_to(a)
        missed = 0
        for i in range(150):
            try:  # the alarm may strike as soon as it is set, where this process has to wait for its core
                signal.setitimer(signal.ITIMER_REAL, 0.005 + 0.00001 * i)
                until = time.monotonic() + 0.5
                for step, batch in a.loop([np.zeros(100)], total=10**9):
                    a.log(loss=model.step(batch))
                    if time.monotonic() > until:
                        missed += 1
                        break
            except Late:
                pass
        print(missed)
    """)  # fmt: skip
    assert done.stdout == "0\n", done.stderr[-2000:]


# -- the daemon beside it ------------------------------------------------------------------------------------------------------


class FakeClock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def launcher(tmp_path, code, told):
    """One whose daemon is a script: it leaves a trace, and goes as a real one does once it is in the background."""
    trace = tmp_path / "started"
    clock = FakeClock()
    body = f"open({str(trace)!r}, 'a').write('x'); import sys; print('why: no', file=sys.stderr); sys.exit({code})"
    command = [sys.executable, "-c", body]
    run = RunDir(tmp_path)
    return (
        Launcher(run, lambda: None, told.append, clock, command),
        clock,
        lambda: len(trace.read_text()) if trace.exists() else 0,
    )


def test_a_daemon_that_died_is_started_again_three_times_at_most(tmp_path):
    told = []
    tended, clock, count = launcher(tmp_path, 0, told)
    assert tended.start() == ""
    for n in range(2, 5):
        for _ in range(20):
            clock.now += 0.5
            tended.tend()
        until(lambda n=n: count() == n)
        tended._thread.join()
    for _ in range(100):
        clock.now += 0.5
        tended.tend()
    assert count() == 4
    assert len(told) == 4
    assert "recording only, nobody is watching" in told[-1]


def test_a_daemon_that_does_not_start_says_why(tmp_path):
    tended, _, _ = launcher(tmp_path, 2, [])
    assert tended.start() == "the daemon did not start (exit code 2): why: no"


def test_another_daemon_that_has_the_run_is_as_good(tmp_path):
    tended, _, _ = launcher(tmp_path, 3, [])
    assert tended.start() == ""


def test_a_daemon_that_holds_its_lock_is_left_alone_even_when_silent(tmp_path):
    told = []
    tended, clock, count = launcher(tmp_path, 0, told)
    code = (
        f"import fcntl, sys; f = open({str(tmp_path / 'daemon.lock')!r}, 'a'); fcntl.lockf(f, fcntl.LOCK_EX)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    try:
        assert is_held(tmp_path / "daemon.lock")
        assert tended.start() == ""
        for _ in range(100):
            clock.now += 0.5
            tended.tend()
        assert count() == 0
    finally:
        holder.communicate()
    assert not is_held(tmp_path / "daemon.lock")


# -- the import ------------------------------------------------------------------------------------------------------------------


def test_importing_it_is_light_and_brings_nothing_of_the_daemons():
    code = """
import sys
import sitter_agent
light = [m for m in ("zmq", "msgspec", "sitter_agent.agent") if m in sys.modules]
sitter_agent.start, sitter_agent.current, sitter_agent.Agent
heavy = [m for m in ("torch", "numpy", "asyncio", "sqlite3", "textual", "psutil", "click", "sitter") if m in sys.modules]
print(light, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_stop_is_taken_within_a_turn(begin, daemon):
    agent = begin()
    d = daemon(agent)
    turns = 0

    def later():
        until(lambda: turns > 10)
        d.order(Stop())

    thread = threading.Thread(target=later)
    thread.start()
    for _ in agent.steps(10**9):
        turns += 1
        time.sleep(0.0005)
    thread.join()
    assert "stopped" in [e.how for e in Run(agent.run).events(GoodBye)]


def test_snapshots_that_fail_are_given_up_and_the_guard_stays(begin, capsys, monkeypatch):
    agent = begin()
    Quadratic().known_to(agent)
    turns = agent.steps(10**9)
    next(turns)

    def no_memory(into):
        raise MemoryError

    monkeypatch.setattr(agent._core.generic, "capture", no_memory)
    until(lambda: next(turns) and agent._core.rail.failures == 3)
    for _ in range(1000):
        next(turns)
    assert "snapshots are given up after 3 failures" in capsys.readouterr().err
    assert agent.recording
    assert agent._core.rail.failures == 3


def test_a_loader_made_anew_for_every_epoch_is_not_kept(begin):
    import gc
    import weakref

    class Loader(list):
        pass

    agent = begin()
    refs = []
    for _ in agent.epochs(5):
        loader = Loader("ab")
        refs.append(weakref.ref(loader))
        for _ in agent.batches(loader):
            pass
        del loader
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1


def test_an_exception_of_the_scripts_sigterm_handler_passes(tmp_path):
    done, _ = run_script(tmp_path, """
        import os, signal
        class Preempted(Exception): pass
        def handler(n, f): raise Preempted
        signal.signal(signal.SIGTERM, handler)
        a = sitter_agent.start(daemon=False)
        model = Quadratic().known_to(a)
        try:
            for step, batch in a.loop([np.zeros(32)], total=20):
                model.step(batch)
                if step == 5:
                    os.kill(os.getpid(), signal.SIGTERM)
        except Preempted:
            print("as the script would have", step)
    """)  # fmt: skip
    assert done.stdout == "as the script would have 5\n", done.stderr


def test_failures_are_told_once_and_switch_us_off_at_last(begin, capsys):
    agent = begin()
    agent._core.adapter.sample = lambda step: 1 / 0
    for _ in agent.steps(200):
        agent.log(loss=1.0)
    err = capsys.readouterr().err
    assert err.count("the safe point failed (ZeroDivisionError") == 1
    assert "switched off after 50 failures" in err
    assert not agent.recording
    assert [e for e in Run(agent.run or next(Path("sitter-runs").iterdir())).events(Remark) if "switched off" in e.text]


def test_a_step_that_is_given_is_the_step_that_is_recorded_however_it_is_written(begin):
    agent = begin()
    for step in (0, 1, np.int64(2), 3, True, 5):  # the first declares the names, what is no plain int goes the long way
        agent.log(loss=1.5, acc=0.5, step=step)
    agent.log(loss=2.5, acc=0.5)
    agent.log(acc=0.5, loss=3.5, step=6)  # the same names in another order are another set
    agent.log(loss=4.5, acc=0.5, step=7)
    for _ in agent.steps(2):
        agent.log(loss=10.0, acc=0.5, step=99)  # the loop counts, not the script
    assert Run(agent.run).values("loss") == [
        (0, 1.5), (1, 1.5), (2, 1.5), (3, 1.5), (1, 1.5), (5, 1.5), (5, 2.5), (6, 3.5), (7, 4.5), (0, 10.0), (1, 10.0),
    ]  # fmt: skip


def test_what_is_logged_again_and_again_goes_the_short_way_under_its_name_here(begin):
    """Whatever the script calls it, and in whatever way it says it."""
    agent = begin(goal="val_loss")
    for step in range(3):
        agent.log({"train/loss": float(step), "val/loss": step + 0.5}, step=step)
        agent.log(acc=0.25, step=step)
    (first, put, goal), (second, _, none) = agent._known.values()
    assert (first, goal) == (("train/loss", "val/loss"), "val/loss")
    assert (second, none) == (("acc",), None)
    assert put(3, agent._core.progress.branch, (3.0, 3.5))
    assert agent._core.goal_value == 2.5
    assert agent._core.progress.points == 3
    run = Run(agent.run)
    assert run.values("loss") == [(step, float(step)) for step in range(4)]
    assert run.values("val_loss") == [(step, step + 0.5) for step in range(4)]
    assert run.values("acc") == [(step, 0.25) for step in range(3)]


def test_a_goal_that_is_known_now_and_then_costs_neither_the_other_values_nor_the_agent(begin, capsys):
    """``val_acc=acc if evaluated else None``, as many a script says it."""
    agent = begin(goal="val_acc", better="higher")
    for step in agent.steps(2 * FAILURES_ALLOWED):
        agent.log(loss=float(step), val_acc=0.5 if step % 10 == 0 else None)
    assert agent.recording
    run = Run(agent.run)
    assert len(run.values("loss")) == 2 * FAILURES_ALLOWED
    assert len(run.values("val_acc")) == 2 * FAILURES_ALLOWED // 10
    assert agent._core.goal_value == 0.5
    assert capsys.readouterr().err.count("val_acc is not a number") == 1
