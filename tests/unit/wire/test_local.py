"""A place without mmap, locks or WAL, as some network file systems are: recorder and history go to a local directory, and that is said.

No such file system can be mounted in a test, so a small library between Python and the C library refuses for one directory what those
refuse; everything else is real, in processes of their own.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sitter.supervise import parent
from sitter_wire import local
from sitter_wire.local import why_not

SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int bad(int fd, const char *what) {
    const char *place = getenv("BAD_PLACE"), *lacks = getenv("BAD_LACKS");
    char link[64], path[4096];
    ssize_t n;
    if (!place || !lacks || strcmp(lacks, what) || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return !strncmp(path, place, strlen(place));
}

static void *refuse(int error) { errno = error; return MAP_FAILED; }

void *mmap(void *a, size_t n, int prot, int flags, int fd, off_t at) {
    void *(*real)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    return (flags & MAP_SHARED) && bad(fd, "mmap") ? refuse(ENODEV) : real(a, n, prot, flags, fd, at);
}
void *mmap64(void *a, size_t n, int prot, int flags, int fd, off_t at) { return mmap(a, n, prot, flags, fd, at); }

int fcntl64(int fd, int cmd, ...) {
    int (*real)(int, int, void *) = dlsym(RTLD_NEXT, "fcntl64");
    va_list more;
    va_start(more, cmd);
    void *arg = va_arg(more, void *);
    va_end(more);
    if ((cmd == F_SETLK || cmd == F_SETLKW) && bad(fd, "locks")) { errno = ENOLCK; return -1; }
    return real(fd, cmd, arg);
}
int fcntl(int fd, int cmd, ...) {
    va_list more;
    va_start(more, cmd);
    void *arg = va_arg(more, void *);
    va_end(more);
    return fcntl64(fd, cmd, arg);
}
"""

TRAIN = """
import sitter_agent
agent = sitter_agent.start(daemon=%s)
for step in agent.steps(50):
    agent.log(loss=1.0 / (step + 1))
agent.close()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    if not sys.platform.startswith("linux") or shutil.which("cc") is None:
        pytest.skip("needs Linux and a C compiler")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "bad.c").write_text(SOURCE)
    made = folder / "bad.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(folder / "bad.c"), "-ldl"], check=True)
    return made


@pytest.fixture
def bad_place(tmp_path, monkeypatch, library):
    """A directory that lacks something, and the environment in which it does."""
    place = tmp_path / "network"
    place.mkdir()

    def lacks(what: str, **more: str) -> tuple[Path, dict[str, str]]:
        env = {**os.environ, "LD_PRELOAD": str(library), "BAD_PLACE": str(place), "BAD_LACKS": what,
               "SITTER_RUNTIME_DIR": str(tmp_path / "rt"), "SITTER_LOCAL_DIR": str(tmp_path / "local"), **more}  # fmt: skip
        env.pop("SITTER_RUN", None)
        return place, env

    return lacks


def sitter(word: str, place: Path, env: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "sitter.cli.main", word, *more]
    return subprocess.run(line, cwd=place, env=env, capture_output=True, text=True, timeout=200, check=False)


def run(code: str, place: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=place, env=env, capture_output=True, text=True, timeout=200, check=True)


def test_a_local_disk_carries_everything(tmp_path):
    assert why_not(tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("what", "said"), [("mmap", "mmap: No such device"), ("locks", "file locks: No locks available")])
def test_what_a_place_lacks_is_found_by_trying(bad_place, what, said):
    place, env = bad_place(what)
    code = f"from pathlib import Path; from sitter_wire.local import why_not; print(why_not(Path({str(place)!r})))"
    assert run(code, place, env).stdout.strip() == said


def refuses(thread):
    raise RuntimeError("can't start new thread")


def test_a_place_that_does_not_answer_is_not_waited_for_and_the_trial_leaves_no_zombie(tmp_path, monkeypatch):
    trial, earlier = tmp_path / "trial.py", set(psutil.Process().children())
    trial.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(local, "TRIAL", trial)
    monkeypatch.setattr(local, "TRIAL_S", 0.2)
    assert why_not(tmp_path).startswith("no answer within")
    with monkeypatch.context() as no_thread:
        no_thread.setattr("threading.Thread.start", refuses)
        assert why_not(tmp_path).startswith("no answer within"), "a host that gives no other thread"
    end = time.monotonic() + 60
    while set(psutil.Process().children()) - earlier:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    assert why_not(tmp_path / "none").startswith("a scratch directory: ")


@pytest.mark.parametrize("what", ["mmap", "locks"])
def test_recorder_and_history_go_to_a_local_directory(bad_place, tmp_path, what):
    place, env = bad_place(what)
    done = run(TRAIN % "False", place, env)
    assert "recorder and history are kept in" in done.stderr
    (made,) = (place / "sitter-runs").iterdir()
    (folder,) = (tmp_path / "local").iterdir()
    assert (tmp_path / "local").stat().st_mode & 0o777 == 0o700
    assert (made / "recorder").resolve() == folder / "recorder"
    assert len(list((folder / "recorder").glob("*/*.rec"))) == 1
    assert (folder / "agent.lock").is_file()
    for name in ("parent.pid", "resume.lock"):
        assert (made / name).readlink() == folder / name
    assert (made / "checkpoints").is_dir()
    assert not (made / "checkpoints").is_symlink()


def test_a_daemon_and_every_command_find_it_there(bad_place, tmp_path):
    place, env = bad_place("locks")
    run(TRAIN % "True", place, env)
    (made,) = (place / "sitter-runs").iterdir()
    (folder,) = (tmp_path / "local").iterdir()
    end = time.monotonic() + 60
    status: dict = {}
    while time.monotonic() < end and status.get("step") is None:
        done = sitter("status", place, env, "--json")
        status = json.loads(done.stdout) if done.returncode == 0 else {}
    assert status["step"] == 50
    assert status["state"] == "finished"
    assert (folder / "history.db").is_file()
    assert "recorder and history are kept in" in sitter("status", place, env).stdout
    assert not list(made.glob("history.db-*"))


@pytest.mark.slow
def test_a_training_is_started_and_resumed_there(bad_place, tmp_path):
    place, env = bad_place("locks")
    done = sitter("run", place, env, "--no-ui", "--name", "x", "--", sys.executable, "-c", "print('trains')")
    assert (done.returncode, done.stdout) == (0, "trains\n"), done.stderr
    assert "x has no verified checkpoint to go on from" in sitter("resume", place, env, "-r", "x").stderr


def test_a_parent_that_cannot_lock_says_so_and_not_that_another_runs(bad_place):
    place, env = bad_place("locks")
    words = [sys.executable, "-I", "-S", parent.__file__, str(place), "--", "true"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert json.loads(done.stdout)["error"].endswith("No locks available")


def test_doctor_says_where_they_go(bad_place, tmp_path):
    place, env = bad_place("mmap")
    said = sitter("doctor", place, env)
    assert f"{place} does not carry mmap: No such device: recorder and history of runs made here go to {tmp_path / 'local'}" in said.stdout


def test_where_nothing_carries_it_the_training_goes_on_and_says_so(bad_place, tmp_path):
    place, env = bad_place("locks")
    env["BAD_PLACE"] = "/"
    done = run(TRAIN % "True" + "print('trained')", place, env)
    assert done.stdout == "trained\n"
    assert "no local directory for recorder and history" in done.stderr
    assert "set SITTER_LOCAL_DIR" in done.stderr
    assert list((place / "sitter-runs").iterdir()) == []
