"""Where things lie: only what is ours and closed to others is used; a run's own file is read or refused in one sentence."""

import os
from pathlib import Path

import pytest

from sitter_wire import rundir
from sitter_wire.places import Endpoints, PlaceError, RunDir, runtime_dir


def test_the_runtime_directory_is_made_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path / "r"))
    assert runtime_dir().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["link", "open", "file", "strangers", "no parent"])
def test_a_directory_that_is_not_safely_ours_is_refused(tmp_path, monkeypatch, what):
    path = tmp_path / "r"
    monkeypatch.setenv("SITTER_RUNTIME_DIR", str(path))
    if what == "link":
        (tmp_path / "real").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "real")
    elif what == "open":
        path.mkdir()
        path.chmod(0o755)
    elif what == "file":
        path.touch()
    elif what == "strangers":
        path.mkdir(mode=0o700)
        somebody = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: somebody)
    else:
        monkeypatch.setenv("SITTER_RUNTIME_DIR", str(tmp_path / "none" / "r"))
    with pytest.raises(PlaceError, match=r"SITTER_RUNTIME_DIR"):
        runtime_dir()


def test_a_socket_path_that_is_too_long_is_said_before_it_is_cut():
    with pytest.raises(PlaceError, match="at most 107 fit"):
        Endpoints(Path("/" + "x" * 120))


def test_a_run_is_made_once_and_read_back(tmp_path):
    first = rundir.create(tmp_path, "lm", command=["python", 'tr"ain.py', "ü\n\x7f"], supervised=True, sockets="/s", version="1")
    second = rundir.create(tmp_path, "lm", command=[], supervised=False, sockets="", version="1")
    assert (first.name, second.name) == ("lm", "lm-2")
    info = rundir.read(first)
    assert (info.command, info.supervised, info.sockets) == (["python", 'tr"ain.py', "ü\n\x7f"], True, "/s")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "a b"])
def test_names_that_need_quoting_or_lead_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(PlaceError, match="run name"):
        rundir.create(tmp_path, name, command=[], supervised=False, sockets="", version="1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "has no run.toml"),
        ("= 3", "cannot read"),
        ('name = "x"', "does not say what a run needs"),
        ('name = "x"\ncreated = "y"\nformat = 99', "newer sitter"),
    ],
)
def test_what_is_no_run_or_a_newer_one_is_said_in_one_sentence(tmp_path, text, says):
    if text is not None:
        (tmp_path / "run.toml").write_text(text)
    with pytest.raises(PlaceError, match=says):
        rundir.read(RunDir(tmp_path))


def test_settings_beside_the_script_are_taken_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sitter.toml").write_text('mode = "watch"\n')
    run = rundir.create(tmp_path / "runs", "lm", command=[], supervised=False, sockets="", version="1")
    assert run.sitter_toml.read_text() == 'mode = "watch"\n'


def test_the_mode_of_the_environment_stays_with_the_run(tmp_path, monkeypatch):
    """Else a daemon that is started later, from another shell, would act where only watching was asked for."""
    monkeypatch.setenv("SITTER_MODE", "watch")
    watched = rundir.create(tmp_path, "lm", command=[], supervised=False, sockets="", version="1")
    armed = rundir.create(tmp_path, "lm", command=[], supervised=True, sockets="", version="1", mode="act")
    monkeypatch.delenv("SITTER_MODE")
    assert (rundir.read(watched).mode, rundir.read(armed).mode) == ("watch", "act")
