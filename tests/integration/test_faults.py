"""The promise of the guard, kept by the whole: the benchmark of planted faults, two seeds of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_faulted_run_ends_where_it_would_have_ended_and_a_healthy_one_is_left_alone():
    words = [sys.executable, str(BENCHMARK), "--quick", "--no-unattended"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=850, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    shares = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"alive"')))
    assert shares["alive"] == 1.0, done.stdout
    assert shares["unchanged"] == 1.0, done.stdout
    assert shares["within"] >= 0.9, done.stdout  # of 30 runs, against the noise of two seeds
