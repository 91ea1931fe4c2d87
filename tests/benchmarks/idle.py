"""What the daemon costs while it only watches: CPU and memory beside a run that logs once a second.

    python tests/benchmarks/idle.py [--seconds 60]

Real daemon, real agent; CPU time is read from the kernel (user + system), so other load on the machine does not count. Elsewhere:
nvtop 0.25 % and nvitop 0.9 % of a core for a display that decides nothing. The screen has a benchmark of its own: ``tui.py``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

TRAINING = """
import sys, time, sitter_agent
agent = sitter_agent.start(name="idle")
print("ready", flush=True)
for step in agent.steps(10**9):
    agent.log(loss=1.0 + 1 / (1 + step), grad_norm=1.0)
    time.sleep(1.0)
"""
REACH_CPU, REACH_MIB = 0.1, 50.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to watch, after 10 s to settle")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="st-") as base:
        runtime = Path(base) / "r"
        runtime.mkdir(mode=0o700)
        environment = {**os.environ, "SITTER_RUNTIME_DIR": str(runtime), "XDG_STATE_HOME": base}
        training = subprocess.Popen([sys.executable, "-c", TRAINING], cwd=base, env=environment, stdout=subprocess.PIPE, text=True)
        daemon = None
        try:
            while training.stdout.readline() != "ready\n":
                assert training.poll() is None, "the training ended"
            commands = ((p, p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"]))
            daemon = next(p for p, words in commands if "sitter.daemon" in words and any(base in word for word in words))
            time.sleep(10)  # imports, first commits: not what it costs for days
            processes = {"daemon": daemon, "training": psutil.Process(training.pid)}
            before = {name: cpu(p) for name, p in processes.items()}
            threads = by_thread(daemon)
            began = time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - began
            share = {name: 100 * (cpu(p) - before[name]) / took for name, p in processes.items()}
            after = by_thread(daemon)
            memory = daemon.memory_full_info()
            print(f"{'daemon beside a 1 Hz run':<34}{'measured':>10}{'reach':>9}")
            print(f"{'CPU, % of a core':<34}{share['daemon']:>10.3f}{REACH_CPU:>9}   {share['daemon'] / REACH_CPU:.2f} × the budget")
            for name, spent in after.items():
                print(f"    {name:<30}{100 * (spent - threads.get(name, 0.0)) / took:>10.3f}")
            print(f"{'memory, RSS MiB':<34}{memory.rss / 2**20:>10.1f}{REACH_MIB:>9}   {memory.rss / 2**20 / REACH_MIB:.2f} × the budget")
            print(f"{'memory, its own (USS) MiB':<34}{memory.uss / 2**20:>10.1f}")
            print(f"{'threads, open files':<34}{daemon.num_threads():>6} {daemon.num_fds():>3}")
            print(f"{'CPU of the training itself, %':<34}{share['training']:>10.3f}   (agent's control thread and the loop together)")
        finally:
            training.kill()
            training.communicate()
            if daemon is not None:
                daemon.terminate()
                daemon.wait(20)


def cpu(process: psutil.Process) -> float:
    """Seconds on a CPU so far, of all threads, in the scheduler's nanoseconds (the usual figure counts in ticks of 10 ms)."""
    return sum(by_thread(process).values())


def by_thread(process: psutil.Process) -> dict[str, float]:
    """The same by thread."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return {f"{(t / 'comm').read_text().strip()} {t.name}": int((t / "schedstat").read_text().split()[0]) / 1e9 for t in tasks}


if __name__ == "__main__":
    main()
