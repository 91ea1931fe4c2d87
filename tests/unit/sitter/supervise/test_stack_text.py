"""The line that a script stands on, out of each of the three kinds of dumps; all three are made by the real thing."""

import os
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sitter.supervise import vitals, witness
from sitter.supervise.stack_text import innermost, main_thread, parse, where

PYTHON = textwrap.dedent("""
    Thread MainThread (140), most recent call last:
      File "/home/u/train.py", line 90, in <module>
        main()
      File "/home/u/train.py", line 41, in evaluate
        x = q.get()
      File "/usr/lib/python3.11/queue.py", line 171, in get
        self.not_empty.wait()
      File "/usr/lib/python3.11/threading.py", line 327, in wait
        waiter.acquire()

    Thread sitter-control (141), most recent call last:
      File "/x/agents/sitter_agent/link.py", line 210, in _control
        self._turn(dealer, push, poller)
""")

FAULTHANDLER = textwrap.dedent("""
    Thread 0x00007f07 (most recent call first):
      File "/x/agents/sitter_agent/link.py", line 210 in _control
      File "/usr/lib/python3.11/threading.py", line 975 in run

    Thread 0x00007f08 (most recent call first):
      File "/usr/lib/python3.11/re/__init__.py", line 166 in match
      File "/home/u/data (1).py", line 10 in parse
      File "/home/u/train.py", line 90 in <module>
""")

PY_SPY = textwrap.dedent("""
    Process 6512: python train.py
    Python v3.11.7 (/usr/bin/python3.11)

    Thread 6512 (idle): "MainThread"
        accept (/usr/lib/python3.11/socket.py:293)
        serve (/home/u/train.py:12)
        <module> (/home/u/train.py:30)
    Thread 6520 (active+gil): "worker"
        run (/usr/lib/python3.11/threading.py:975)
""")


@pytest.mark.parametrize(
    ("text", "says", "threads"),
    [
        (PYTHON, "train.py:41 in evaluate, inside python3.11/threading.py:327 wait", 2),
        (FAULTHANDLER, "data (1).py:10 in parse, inside re/__init__.py:166 match", 2),
        (PY_SPY, "train.py:12 in serve, inside python3.11/socket.py:293 accept", 2),
    ],
)
def test_the_scripts_innermost_line_is_found(text, says, threads):
    found = parse(text)
    assert len(found) == threads
    assert where(found) == says


def test_frames_of_the_agent_are_nobodys_cause():
    text = """Thread MainThread (1), most recent call last:
  File "/home/u/train.py", line 9, in <module>
    for step, batch in agent.loop(loader):
  File "/x/agents/sitter_agent/loops.py", line 23, in loop
    there, batch = feed.next_batch()
"""
    assert where(parse(text)) == "train.py:9 in <module>"
    assert innermost(parse(text))[0] == "/x/agents/sitter_agent/loops.py:loop"


def test_what_is_no_dump_has_no_line():
    assert parse("nothing\nof the kind\n") == []
    assert where([]) == ""
    assert main_thread([]) is None


def test_the_line_is_quoted_unless_the_file_has_changed_since(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("a\nx = q.get()\n")
    threads = parse(f'Thread 1 (most recent call first):\n  File "{script}", line 2 in main\n')
    assert where(threads, time.time() + 5) == "train.py:2 in main: `x = q.get()`"
    assert where(threads, time.time() - 3600) == "train.py:2 in main"


SCRIPT = """
import ctypes, faulthandler, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {agents!r})
from sitter_agent.quiet import be_quiet
from sitter_agent.stacks import SIGNAL, StackFile

tids = []
def control():
    be_quiet()
    tids.append(threading.get_native_id())
    time.sleep(1000)

def stand():
    ctypes.CDLL(None).sleep(1000)  # a C sleep: any signal to this thread would end it
    print("the sleep was cut short", flush=True)
    time.sleep(1000)

threading.Thread(target=control, daemon=True).start()
while not tids:
    time.sleep(0.01)
{before}
file = StackFile(Path(sys.argv[1]))
{after}
print(tids[0], file.signal(), int(SIGNAL), flush=True)
stand()
"""


@pytest.fixture
def standing(tmp_path, monkeypatch):
    """Starts a process that stands in a C sleep; (process, control thread, signal it answers, the signal, file)."""
    monkeypatch.setattr(witness, "ANSWER_S", 60.0)
    monkeypatch.setattr(witness, "PY_SPY_S", 60.0)
    made = []

    def begin(before="", after=""):
        script = tmp_path / "stand.py"
        agents = str(Path(__file__).resolve().parents[4] / "agents")
        script.write_text(SCRIPT.format(agents=agents, before=before, after=after), encoding="utf-8")
        file = tmp_path / "stacks.txt"
        process = subprocess.Popen([sys.executable, str(script), str(file)], stdout=subprocess.PIPE, text=True)
        made.append(process)
        tid, answers, number = map(int, process.stdout.readline().split())
        while not sleeps(process.pid):
            assert process.poll() is None
        return process, tid, answers, number, file

    yield begin
    for process in made:
        process.kill()
        process.communicate()


SLEEPING = {"230", "35", "115", "101"}
"""clock_nanosleep and nanosleep, on x86-64 and on ARM."""


def state(pid, tid):
    return Path(f"/proc/{pid}/task/{tid}/stat").read_text().rpartition(")")[2].split()[0]


def sleeps(pid):
    """Whether the main thread is in its C sleep."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in SLEEPING


def test_a_signal_to_the_control_thread_has_all_stacks_and_cuts_no_sleep_short(standing):
    process, tid, answers, number, file = standing()
    assert answers == number
    text = witness.by_signal(process.pid, tid, number, file)
    assert "stand.py:15 in stand" in where(parse(text)), text
    assert len(parse(text)) == 2
    assert process.poll() is None
    assert sleeps(process.pid)
    assert not select.select([process.stdout], [], [], 0.2)[0], "the C sleep of the main thread was cut short"


def test_who_has_no_turn_in_the_midst_of_its_dump_is_waited_for(standing, monkeypatch):
    process, tid, _answers, number, file = standing()
    asked = []
    monkeypatch.setattr(witness, "SETTLED_S", 0.0)
    monkeypatch.setattr(witness, "_at_work", lambda *thread: asked.append(thread) or len(asked) < 4)
    assert "stand.py:15 in stand" in where(parse(witness.by_signal(process.pid, tid, number, file)))
    assert asked == [(process.pid, tid)] * 4


def test_a_script_that_has_the_signal_keeps_it(standing):
    process, tid, answers, _number, file = standing(before="signal.signal(SIGNAL, lambda *_: print('mine', flush=True))")
    assert answers == 0
    assert not file.exists()
    assert witness.by_signal(process.pid, tid, answers, file) == ""


def test_a_script_that_takes_the_signal_later_gets_it(standing):
    _process, _tid, answers, _number, _file = standing(after="signal.signal(SIGNAL, lambda *_: print('mine', flush=True))")
    assert answers == 0


def test_a_process_whose_handler_is_gone_is_sent_nothing_and_would_not_mind(standing):
    process, tid, answers, number, file = standing(after="file.close()")
    assert answers == 0
    assert not file.exists(), "nothing was written into it: it goes"
    assert witness.by_signal(process.pid, tid, number, file) == ""
    os.kill(process.pid, number)
    assert process.poll() is None


def test_a_stopped_process_is_sent_nothing(standing):
    import signal

    process, tid, _answers, number, file = standing()
    process.send_signal(signal.SIGSTOP)
    while state(process.pid, tid) != "T":  # the threads stop one after the other
        time.sleep(0.001)
    assert witness.by_signal(process.pid, tid, number, file) == ""
    assert file.stat().st_size == 0


def test_py_spy_looks_from_outside(standing):
    process, *_ = standing()
    text = witness.by_py_spy(process.pid)
    if not text:
        pytest.skip("py-spy is not installed, or may not look")
    assert "stand.py:15 in stand" in where(parse(text)), text


def test_the_kernel_names_the_control_thread(standing):
    process, tid, *_ = standing()
    assert vitals.thread_named(process.pid, "sitter-control") == tid
    assert "sitter-control" in vitals.threads(process.pid)


def test_vitals_of_a_sleeping_a_computing_and_a_gone_process(standing):
    process, *_ = standing()
    one = vitals.look(process.pid, 0.0)
    time.sleep(0.3)
    still = vitals.between(one, vitals.look(process.pid, 0.3))
    assert (still.state, still.cpu, still.dead_children) == ("S", 0.0, 0)
    me, spent = vitals.look(os.getpid(), 0.0), time.process_time()
    while time.process_time() - spent < 0.3:
        pass
    busy = vitals.between(me, vitals.look(os.getpid(), 0.3))
    assert busy.cpu is not None
    assert busy.cpu > 0.5
    process.kill()
    process.wait()
    assert vitals.look(process.pid, 1.0).state == "X"


def test_a_hang_that_was_planted_on_purpose_is_told_where_the_agent_is_otherwise_passed_over():
    text = textwrap.dedent("""
        Thread MainThread (140), most recent call last:
          File "/home/u/train.py", line 9, in <module>
            for step in agent.steps(10):
          File "/x/agents/sitter_agent/loops.py", line 52, in steps
            host.turn_over(0.0)
          File "/x/agents/sitter_agent/NAME.py", line 30, in drill_stands_still
            time.sleep(STANDS_S)
    """)
    assert where(parse(text.replace("NAME", "drill"))).startswith("drill.py:30 in drill_stands_still")
    assert where(parse(text.replace("NAME", "state"))).startswith("train.py:9 in <module>")
