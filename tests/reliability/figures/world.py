"""One machine's worth of accidents: trainers and daemons of a few runs, started and killed at random, and what their histories hold.

``python -m tests.reliability.figures.world PLACE SPEED KILLS SEED`` prints a line of JSON for each run, when it is over. It imports what
trainers and daemons import, opens nothing of it, and forks both from itself.
"""

import contextlib
import json
import random
import shutil
import sys
import time
from pathlib import Path

import sitter_agent.agent
from sitter.errors import SitterError
from sitter.store.reader import Reader
from sitter_wire import rundir
from tests.reliability.figures.daemons import ended, fork_daemon, kill
from tests.reliability.figures.history import check, torn_and_rotations
from tests.reliability.figures.trainer import FULL, LEISURE, SLOW, fork_trainer

KILLS_A_RUN = 40
LIFE_S = {FULL: (0.02, 0.6), SLOW: (0.05, 1.2), LEISURE: (0.5, 5.0)}
AT_WORK_S = 6.0
"""The first commit comes after half a second, or after five at leisure."""
SEGMENTS = (4096, 16 * 1024, 64 * 1024, 1 << 20)
KINDS = ("trainer", "daemon", "both")
STILL_S = 60.0
"""The last daemon has to take in what is left, and leaves by itself: where the trainers outran daemons that were killed again and again,
that may be millions of records. One that hangs stores nothing for so long."""

assert sitter_agent.agent  # imported here, so that no trainer has to


class World:
    """One run with all its restarts."""

    def __init__(self, place: Path, speed: str, seed: str) -> None:
        place.mkdir(parents=True)
        self.place, self.speed = place, speed
        self.random = random.Random(seed)
        self.run = rundir.create(place, "x", command=["killed"], supervised=False, sockets="", version="")
        self.trainers: list[Path] = []
        self.trainer = self.daemon = 0
        self.figures: dict[str, int] = dict.fromkeys(("trainer", "daemon", "both", "torn", "rotations", "daemons_at_work"), 0)
        self.faults: list[str] = []

    def live(self, kills: int) -> None:
        """So many kills; the last trainer ends as it likes, and the last daemon too."""
        stored = 0
        for _ in range(kills):
            self.start()
            time.sleep(self.life())
            kind = self.random.choice(KINDS)
            victims = ["trainer", "daemon"] if kind == "both" else [kind]
            self.random.shuffle(victims)
            for victim in victims:
                self.kill(victim)
            self.figures[kind] += 1
            if "daemon" in victims:
                before, stored = stored, self.stored()
                self.figures["daemons_at_work"] += stored > before
        self.start()
        time.sleep(self.life())
        self.finish()

    def start(self) -> None:
        """Whoever is not there; one of them later than the other, or at the same time."""
        for who in self.random.sample(("trainer", "daemon"), 2):
            if not getattr(self, who):
                if who == "trainer":
                    segment_bytes = SEGMENTS[0] if self.speed == LEISURE else self.random.choice(SEGMENTS)
                    self.trainers.append(self.place / f"t{len(self.trainers)}")
                    self.trainer = fork_trainer(self.trainers[-1], self.run.path, self.speed, segment_bytes)
                else:
                    self.daemon = fork_daemon(self.run, self.place / "daemon.txt")
                time.sleep(self.random.choice((0.0, 0.0, 0.1)))

    def life(self) -> float:
        """Seconds until somebody is killed: in the middle of a start, of the first commits, or of a daily round."""
        if self.random.random() < 0.4:
            self.at_work()
        return self.random.uniform(*LIFE_S[self.speed])

    def at_work(self) -> None:
        """Until the daemon has committed something that this one took in."""
        began, until = self.stored(), time.monotonic() + AT_WORK_S
        while self.stored() <= began and time.monotonic() < until:
            time.sleep(0.1)

    def kill(self, who: str) -> None:
        """SIGKILL. What a trainer leaves is looked at before a daemon can read it."""
        pid = getattr(self, who)
        kill(pid)
        setattr(self, who, 0)
        if who == "trainer":
            self.look_at_remains(pid)

    def look_at_remains(self, pid: int) -> None:
        """Of the session that had this pid: it is the newest."""
        with contextlib.suppress(OSError, ValueError):
            session = json.loads(self.run.agent_lock.read_text())
            if session["pid"] == pid:
                torn, rotations = torn_and_rotations(self.run.recorder / session["session"])
                self.figures["torn"] += torn
                self.figures["rotations"] += rotations

    def stored(self) -> int:
        """Records in the history by now, counted by their numbers."""
        reader = Reader(self.run.history)
        try:
            return sum(reader.sequences().values())
        except SitterError:
            return 0  # killed before it had made one
        finally:
            reader.close()

    def files(self) -> int:
        """Segments that are there."""
        return sum(1 for _ in self.run.recorder.rglob("*.rec"))

    def finish(self) -> None:
        """The trainer ends by a kill or by itself; the daemon leaves once all is committed."""
        if self.random.random() < 0.5:
            self.kill("trainer")
        else:
            (self.trainers[-1] / "enough").touch()
            code = ended(self.trainer, STILL_S)
            if code != 0:
                self.faults.append(f"the trainer did not end by itself: {code}")
                if code is None:
                    kill(self.trainer)
            self.look_at_remains(self.trainer)
        self.trainer = 0
        before, code = None, None
        while code is None and (now := (self.stored(), self.files())) != before:  # it stores, or deletes what it has stored
            before, code = now, ended(self.daemon, STILL_S)
        if code is None:
            kill(self.daemon)
        self.daemon = 0
        if code != 0:
            how = f"stored and deleted nothing for {STILL_S:.0f} s, and did not leave" if code is None else f"ended with {code}"
            self.faults.append(f"the last daemon {how}")

    def end(self) -> None:
        """Whatever happens."""
        for who in ("trainer", "daemon"):
            if getattr(self, who):
                kill(getattr(self, who))

    def verdict(self) -> dict[str, object]:
        """What this run's history holds, and what the daemons and trainers had to say."""
        found = check(self.run, self.trainers)
        faults = self.faults + found.faults + self.said()
        reader = Reader(self.run.history)
        gaps = [e.detail for e in reader.logbook() if e.status == "gap"]
        reader.close()
        faults += [f"the logbook speaks of a gap: {gap}" for gap in gaps]
        faults += [f"{path} stays, and is in the history" for path in sorted(self.run.recorder.rglob("*.rec"))[:3]]
        kept = {"trainers": len(self.trainers), "speed": self.speed, "place": str(self.place)}
        return {**self.figures, **found._asdict(), **kept, "faults": faults}

    def said(self) -> list[str]:
        """Tracebacks, and what could not be stored or recorded."""
        told = []
        for path in (self.place / "daemon.txt", *(t / "said.txt" for t in self.trainers)):
            if not path.exists():
                continue
            for line in path.read_text(errors="replace").splitlines():
                if any(word in line for word in ("Traceback", "Error:", "not stored", "ERROR", "cannot record", "failed")):
                    told.append(f"{path.parent.name}/{path.name}: {line[:300]}")
        return told[:10]


def main(place: str, speed: str, kills: str, seed: str) -> None:
    left, number = int(kills), 0
    while left > 0:
        some = min(left, KILLS_A_RUN)
        world = World(Path(place) / f"r{number}", speed, f"{seed} {number}")
        try:
            world.live(some)
            verdict = world.verdict()
        finally:
            world.end()
        if not verdict["faults"]:
            shutil.rmtree(world.place)
        print(json.dumps(verdict), flush=True)
        left, number = left - some, number + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
