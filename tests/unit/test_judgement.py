"""The benchmark that says how good the judgement is: that its sums are right, and (slow) that the reached figures hold."""

import csv
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "judgement.py"
LOGS = Path(__file__).parents[3] / "shared" / "logs"
COLUMNS = ("step", "train_loss", "val_loss", "lr", "grad_norm")


def write_run(path: Path, loss: Callable[[int, float], float], *, points: int = 400, every: int = 100) -> None:
    rng = random.Random(5)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for i in range(points):
            table.writerow([i * every, loss(i, (2 + 2 * math.exp(-i / 50)) * math.exp(rng.gauss(0, 0.03))), "", "", ""])


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A healthy run, one that spikes at step 20,000 and heals, one that blows up at 30,000 and is nan at 30,300."""
    (tmp_path / "runs").mkdir()
    write_run(tmp_path / "runs" / "one__well.csv", lambda i, v: v)
    write_run(tmp_path / "runs" / "one__spike.csv", lambda i, v: v * (3.0 if 200 <= i < 206 else 1.0))
    write_run(tmp_path / "runs" / "two__nan.csv", lambda i, v: math.nan if i >= 303 else v * (20.0 if i >= 300 else 1.0))
    with (tmp_path / "index.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "group", "kind", "labels", "score_as"])
        table.writerow(["one__well.csv", "one/a", "text", "healthy", "benign"])
        table.writerow(["one__spike.csv", "one/b", "text", "spike@20000", "trouble"])
        table.writerow(["two__nan.csv", "two", "text", "divergence@30000;nan@30300", "trouble"])
    return tmp_path


def printed(*arguments: str) -> str:
    done = subprocess.run([sys.executable, str(BENCHMARK), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(out: str, name: str) -> str:
    (line,) = [line for line in out.splitlines() if line.strip().startswith(name)]
    return line


def test_three_logs_are_judged(logs):
    out = printed("--logs", str(logs), "--workers", "1", "--show")
    assert "0.0000 (0 of 1)" in row(out, "touched unasked")
    assert "0.0000 (0 of 1)" in row(out, "a finding of at least warning")
    assert "1.0000 (1 of 1), median 0 points" in row(out, "spike (judged)")
    assert "1.0000 (1 of 1), after at most 0 points" in row(out, "no longer finite")
    assert "1.0000 (2 of 2)" in row(out, "sitter")
    assert "0.5000 (1 of 2)" in row(out, "llm-foundry")  # more than four in a row: three are not
    assert "acted on unasked 1.0000 (1 of 1)" in row(out, "what did not heal")
    assert "false:" not in out
    assert "missed:" not in out


def test_some_sources_can_be_held_out(logs):
    assert "two" not in printed("--logs", str(logs), "--workers", "1", "--but", "two")
    assert "1.0000 (1 of 1)" in row(printed("--logs", str(logs), "--workers", "1", "--only", "two"), "sitter")


def test_without_logs_it_says_so(tmp_path):
    (line,) = printed("--logs", str(tmp_path)).splitlines()
    assert line.startswith("no published logs at")


@pytest.mark.slow
@pytest.mark.skipif(not (LOGS / "index.csv").is_file(), reason="the published logs are not there")
def test_the_reached_figures_hold():
    out = printed("--logs", str(LOGS))

    def shares(name: str) -> list[float]:
        return [float(word) for word in row(out, name).split() if word.startswith(("0.", "1."))]

    assert shares("touched unasked")[0] <= 0.002
    assert shares("a finding of at least warning")[0] <= 0.01
    assert shares("asked about")[0] <= 0.10
    assert shares("no longer finite")[0] == 1.0
    assert "after at most 0 points" in row(out, "no longer finite")
    alarmed, seen = shares("sitter")
    assert seen >= 0.90
    for name in ("OLMo-core", "ZClip", "Forgather", "Lightning", "llm-foundry"):
        others = shares(name)
        assert alarmed <= others[0]
        assert seen > others[1]
    assert shares("overfit (judged)")[0] >= 0.9
    assert shares("plateau (judged)")[0] == 1.0
