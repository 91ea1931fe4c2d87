"""Where the sockets would lie: too long a path, a link, a file, somebody else's, open to others. Training goes on all the same."""

import os
import sys
from pathlib import Path

import pytest

TRAINS = """
    import sitter_agent
    agent = sitter_agent.start(name="x")
    for step in agent.steps(30):
        agent.log(loss=1.0)
    print("trained to the end")
"""


def too_long(base: Path) -> Path:
    return base / ("d" * 120)


def a_link(base: Path) -> Path:
    (base / "real").mkdir(mode=0o700)
    (base / "link").symlink_to(base / "real")
    return base / "link"


def a_file(base: Path) -> Path:
    (base / "file").write_text("mine")
    return base / "file"


def open_to_others(base: Path) -> Path:
    (base / "open").mkdir()
    (base / "open").chmod(0o755)
    return base / "open"


def nowhere(base: Path) -> Path:
    return base / "no" / "such"


def somebody_elses(base: Path) -> Path:
    if os.getuid() != 0:
        pytest.skip("only root can make a directory that belongs to somebody else")
    (base / "theirs").mkdir(mode=0o700)
    os.chown(base / "theirs", 4711, 4711)
    return base / "theirs"


PLACES = {
    too_long: "bytes, at most 107 fit",
    a_link: "is a symbolic link",
    a_file: "is not a directory",
    open_to_others: "open to others (mode 755)",
    nowhere: "cannot make the runtime directory",
    somebody_elses: "belongs to user 4711",
}


@pytest.mark.parametrize("make", PLACES)
def test_a_runtime_directory_that_cannot_be_trusted_is_refused(sitter, script, start, tmp_path, make):
    place = make(tmp_path)
    mode = place.lstat().st_mode if place.exists() else None
    said = sitter.refused("run", "--no-ui", "--name", "never", "--", "touch", "started", SITTER_RUNTIME_DIR=str(place))
    assert PLACES[make] in said
    assert "SITTER_RUNTIME_DIR" in said, "what to do"
    assert not (tmp_path / "started").exists()
    assert not (tmp_path / "sitter-runs").exists(), "refused before anything was made"

    # A plain script trains to its end, records, and says that nobody watches.
    training = start(sys.executable, "-u", str(script(TRAINS)), SITTER_RUNTIME_DIR=str(place))
    out = training.communicate(timeout=100)[0]
    assert training.returncode == 0
    assert "trained to the end" in out
    (line,) = [row for row in out.splitlines() if "nobody is watching" in row]
    assert PLACES[make] in line
    assert "Traceback" not in out

    # And what it recorded can be read from a terminal that has the same wrong place: no socket is needed for that.
    assert sitter("status", SITTER_RUNTIME_DIR=str(place)).returncode == 0
    assert sitter.status()["step"] == 30
    if mode is not None:
        assert place.lstat().st_mode == mode


def test_doctor_says_what_is_wrong_with_the_place(sitter, tmp_path):
    done = sitter("doctor", SITTER_RUNTIME_DIR=str(open_to_others(tmp_path)))
    assert done.returncode == 1
    assert "!!  runtime directory" in done.stdout
    assert "open to others" in done.stdout
    assert not done.stderr
    well = sitter("doctor")
    assert well.returncode == 0, well.stdout
    assert "ok  runtime directory" in well.stdout


def test_a_recorded_place_that_is_gone_is_made_anew(sitter, script, start, tmp_path):
    """After a reboot /tmp is empty: whoever comes next makes the run's sockets again."""
    training = start(sys.executable, "-u", str(script(TRAINS)), SITTER="off")
    training.communicate(timeout=100)
    runtime = Path(os.environ["SITTER_RUNTIME_DIR"])
    for made in runtime.iterdir():
        made.rmdir()
    runtime.rmdir()
    assert sitter.status()["step"] == 30
    from_elsewhere = sitter("status", "-r", str(tmp_path / "sitter-runs" / "x"), SITTER_RUNTIME_DIR=str(tmp_path / "other"))
    assert from_elsewhere.returncode == 0
