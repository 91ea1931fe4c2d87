"""Where systemd would kill the training at logout. The decision is tried on what real machines say; systemd itself is not needed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sitter.supervise import launch as launch_module
from sitter.supervise.exit import read_exit
from sitter.supervise.launch import launch
from sitter.supervise.scope import NOT_LINGERING, Scope, find_scope, needed, scope
from sitter_wire.places import RunDir

Until = Callable[..., Any]

LOGIN = "0::/user.slice/user-1000.slice/session-3.scope\n"
LOGIN_V1 = "4:memory:/user.slice/user-1000.slice/session-c2.scope\n1:name=systemd:/user.slice/user-1000.slice/session-c2.scope\n"
SERVICE = "0::/system.slice/cron.service\n"
OWN_SCOPE = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/sitter-x.scope\n"


@pytest.mark.parametrize(
    ("cgroup", "kills", "wanted"),
    [
        (LOGIN, True, True), (LOGIN_V1, True, True), (LOGIN, False, False), (SERVICE, True, False),
        (OWN_SCOPE, True, False), ("", True, False),
    ],
)
def test_only_a_login_session_that_is_ended_at_logout_needs_one(cgroup: str, kills: bool, wanted: bool) -> None:
    assert needed(cgroup, kills) is wanted


def test_here_nothing_is_in_the_way() -> None:
    assert isinstance(find_scope("sitter-x.scope"), Scope)


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_without_lingering_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scope("u.scope", lingering=True).prefix == []
    assert "systemd-run is not there" in scope("u.scope", lingering=True).note
    program(tmp_path, "systemd-run", "true")
    found = scope("u.scope", lingering=False)
    assert found.prefix == ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--unit=u.scope", "--"]
    assert found.note == NOT_LINGERING
    assert scope("u.scope", lingering=True).note == ""


def test_the_parent_is_started_through_systemd_run(run: RunDir, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in systemd-run's place does what that does with --scope: it executes the rest of its words."""
    words = tmp_path / "words"
    program(tmp_path / "bin", "systemd-run", f'echo "$@" > {words}\nwhile [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(launch_module, "find_scope", lambda unit: scope(unit, lingering=True))
    started = launch(run, ["sh", "-c", "exit 0"], grace_s=60)
    assert started.note == ""
    assert until(lambda: read_exit(run)).code == 0
    assert words.read_text().startswith("--user --scope --quiet --collect --unit=sitter-a-run-")


def test_a_systemd_run_that_does_not_work_is_done_without_and_said(run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin", "systemd-run", "echo 'Failed to connect to bus: No medium found' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(launch_module, "find_scope", lambda unit: scope(unit, lingering=True))
    started = launch(run, [sys.executable, "-c", "raise SystemExit(0)"], grace_s=60)
    assert "systemd-run did not work (Failed to connect to bus: No medium found)" in started.note
    assert json.loads(run.exit_json.read_text())["code"] == 0
