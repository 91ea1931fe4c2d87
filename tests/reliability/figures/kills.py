"""Records over random SIGKILLs of the trainer, of the daemon, and of both at once: what is lost, doubled, wrong, torn."""

import json
import random
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tests.reliability.figures.apart import apart
from tests.reliability.figures.trainer import FULL, LEISURE, SLOW, SOURCES

WORLDS = {FULL: 3, SLOW: 4, LEISURE: 3}
FEW, FEW_WORLDS = 100, {FULL: 1, SLOW: 2, LEISURE: 1}
"""How many at the same time: at 10 and at 2 Hz a world is asleep nearly always. For few kills fewer: each has to begin and to end."""
SHARES = {FULL: 0.48, SLOW: 0.47, LEISURE: 0.05}
"""Of the kills. At 2 Hz one takes some 6 s."""
SUMS = (
    "trainer", "daemon", "both", "daemons_at_work", "trainers", "logged", "stored", "lost", "doubled", "wrong", "strangers", "torn",
    "rotations", "forks",
)  # fmt: skip


def measure(kills: int, say: Callable[[str], object], seed: str = "") -> dict[str, Any]:
    """Figures over so many kills, half of them at full logging speed; ``faults`` are sentences. ``seed`` as it was said
    repeats the same accidents, as far as the machine does."""
    seed = seed or f"{random.SystemRandom().getrandbits(32):08x}"
    figures: dict[str, Any] = {**dict.fromkeys(SUMS, 0), "kills": kills, "seed": seed, "runs": 0}
    figures |= {"by_source": dict.fromkeys(SOURCES, 0), "faults": []}
    counts = {speed: round(kills * share) for speed, share in SHARES.items()}
    counts[FULL] += kills - sum(counts.values())
    shares = [(speed, part) for speed, count in counts.items() for part in parts(count, (WORLDS if kills > FEW else FEW_WORLDS)[speed])]
    lock = threading.Lock()

    def follow(world: "subprocess.Popen[str]") -> None:
        assert world.stdout is not None
        for line in world.stdout:
            with lock:
                add(figures, json.loads(line))
                done = figures["trainer"] + figures["daemon"] + figures["both"]
                say(f"{done} of {kills} kills, {figures['logged']:,} calls, {figures['lost']} lost, {figures['torn']} torn")

    with apart() as place:
        worlds, readers = [], []
        for i, (speed, count) in enumerate(shares):
            words = (place.base / f"w{i}", speed, count, f"{seed} {i}")
            worlds.append(place.start("tests.reliability.figures.world", *words))
            readers.append(threading.Thread(target=follow, args=(worlds[-1],), daemon=True))
            readers[-1].start()
        for world, reader in zip(worlds, readers, strict=True):
            reader.join()
            if world.wait() != 0:
                figures["faults"].append(f"a world ended with {world.returncode}")
        place.keep = bool(figures["faults"])
        if place.keep:
            say(f"kept for a look: {place.base}")
    return figures


def parts(count: int, worlds: int) -> list[int]:
    """As even as may be, none of them empty."""
    return [n for i in range(worlds) if (n := count // worlds + (i < count % worlds))]


def add(figures: dict[str, Any], verdict: dict[str, Any]) -> None:
    """One run's verdict to the sums."""
    for name in SUMS:
        figures[name] += verdict[name]
    for source, count in verdict["by_source"].items():
        figures["by_source"][source] += count
    figures["runs"] += 1
    figures["faults"] += [f"{verdict['place']} ({verdict['speed']}): {fault}" for fault in verdict["faults"]]


def broken(figures: dict[str, Any]) -> list[str]:
    """What of the promise does not hold, in sentences."""
    out = list(figures["faults"])
    out += [f"{figures[name]} records {name}" for name in ("lost", "doubled", "wrong", "strangers") if figures[name]]
    out += [f"{source} never logged: nothing was measured of it" for source, count in figures["by_source"].items() if not count]
    out += [f"{name}: none, so nothing was measured of it" for name in ("forks", "rotations", "daemons_at_work") if not figures[name]]
    return out


def table(figures: dict[str, Any]) -> list[str]:
    """As a person reads it."""
    f = figures
    return [
        f"{f['kills']:,} SIGKILLs: {f['trainer']} of the trainer, {f['daemon']} of the daemon, {f['both']} of both; half at full speed",
        f"{f['logged']:,} calls had returned: {f['lost']} lost, {f['doubled']} doubled, {f['wrong']} wrong; {f['torn']} torn, recognised",
        f"{f['trainers']:,} sessions in {f['runs']} runs, {f['rotations']:,} rotations, {f['forks']:,} forked children that logged: "
        f"{f['strangers']} values of theirs",
    ]
