"""`sitter demo`, as a new user runs it, with fewer steps: three real trainings, the real agent, the real daemon."""

import json
import math

import pytest
from PIL import Image

from sitter.locks import holder
from sitter_wire.places import RunDir

CLEAN_TO_BABYSAT = 0.08
"""Nats. Other batches after a rollback move the end of so short a run by a few hundredths."""


def test_the_babysat_run_ends_where_the_clean_one_does_and_the_unattended_one_dies(sitter, tmp_path):
    done = sitter("demo", "--no-ui", "--json", "--steps", "500", "--plot", "curves.png", timeout=280)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    clean, alone, babysat = (told[name] for name in ("clean", "unattended", "babysat"))
    assert math.isfinite(clean["final_val_loss"])
    assert clean["final_val_loss"] < 2.3
    assert alone == {"final_val_loss": "nan", "died_at_step": 325}
    assert babysat["final_val_loss"] == pytest.approx(clean["final_val_loss"], abs=CLEAN_TO_BABYSAT)
    assert babysat["died_at_step"] is None
    assert babysat["steps_lost"] > 0
    assert 0 < told["log_us_p50"] < 1000

    assert len(told["incidents"]) == 2
    rate, data = told["incidents"]
    assert rate["rule"] == data["rule"] == "guard"
    assert 175 <= rate["onset"] <= 185
    assert "nan" in data["text"]
    assert all("recovered" in i["verdict"] for i in told["incidents"])

    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 640)
    assert "with sitter: step" in done.stderr
    assert "back from step" in done.stderr
    assert holder(RunDir(told["run"]).daemon_lock) is None  # nothing of it is left running


def test_a_picture_that_could_not_be_drawn_is_refused_before_anything_is_trained(sitter, tmp_path):
    for words, reason in (("a.pdf", ".png or .svg"), ("no/a.png", "is not there")):
        done = sitter("demo", "--no-ui", "--plot", words)
        assert done.returncode == 2
        assert reason in done.stderr
    assert not (tmp_path / "sitter-runs").exists()
