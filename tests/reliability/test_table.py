"""The table of promises: each row is one file that says all three things, and what cannot be measured is not called kept."""

import inspect
import json
import subprocess
import sys

import pytest

from tests.benchmarks import reliability


@pytest.mark.parametrize("measurement", reliability.MEASUREMENTS, ids=lambda m: m.name)
def test_a_measurement_measures_judges_and_tells(measurement):
    module = reliability.module_of(measurement)
    assert list(inspect.signature(module.measure).parameters)[1] == "say"
    assert callable(module.broken)
    assert callable(module.table)
    assert 0 < measurement.quick <= measurement.full


def test_names_are_given_once():
    names = [m.name for m in reliability.MEASUREMENTS]
    assert len(names) == len(set(names))


def test_what_cannot_be_measured_is_broken(capsys):
    _, broken = reliability.run(reliability.Measurement("x", "none", "no_such_file", 1, 1), quick=True)
    assert len(broken) == 1
    assert capsys.readouterr().out.startswith("BROKEN")


def table(tmp_path, name: str) -> tuple[str, dict]:
    """What the script prints of one quick measurement, and the row that it wrote."""
    words = [sys.executable, reliability.__file__, "--quick", "--only", name, "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "figures.json").read_text())
    return done.stdout, row


@pytest.mark.timeout(400)
def test_the_script_runs_by_itself_its_figures_can_be_read_again_and_what_is_gone_beyond_the_cap_is_counted(tmp_path):
    printed, row = table(tmp_path, "cap")
    assert "1 of 1 promises kept" in printed
    assert row["figures"]["cases"]
