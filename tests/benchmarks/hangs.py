"""How soon is it said why a training does not go on, and what does the phase mark cost?

``python tests/benchmarks/hangs.py [--real]``: each fault in a training of its own, all at the same time. The time runs from the fault (the
script writes it down) to the finding in the logbook. Without ``--real`` the rule's patience is shortened
(stopped 2 s, hung 4 s, still 4 s, busy 12 s), so that a minute is enough: what lies above it is what noticing costs.
"""

import argparse
import importlib.util
import json
import tempfile
import timeit
from pathlib import Path

HERE = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("hang_causes", HERE.parent / "reliability" / "test_hang_causes.py")
assert spec is not None
assert spec.loader is not None
causes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(causes)

PATIENCE = {"stopped": (2, 10), "holds the lock": (4, 30), "regex": (4, 30), "busy": (12, 1800)}
STILL = (4.2, 120)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true", help="the rule's own patience; without the busy one, which takes half an hour")
    parser.add_argument("faults", nargs="*", help="some of them only")
    real, faults = (told := parser.parse_args()).real, told.faults
    if real:
        causes.RULES = ""
    left_out = {"killed", "before its first answer", "busy" if real else ""}
    names = [n for n in causes.BODIES if n not in left_out and (not faults or n in faults)]
    with tempfile.TemporaryDirectory() as place:
        made = {}
        try:
            for name in names:
                body = causes.BODIES[name].replace("STAND:", 'STAND and open("at", "w").write(repr(time.time())):')
                body = body.replace("if i == 40:", 'if i == 40 and open("at", "w").write(repr(time.time())):')
                made[name] = causes.Training(Path(place) / name.replace(" ", "-"), causes.HEAD + body)
            print(f"{'fault':16} {'patience':>9} {'noticed':>9}  what is said", flush=True)
            for name, training in made.items():
                found = training.found(timeout=300.0)
                began = float((training.place / "at").read_text())
                after = found.time - began
                patience = PATIENCE.get(name, STILL)[real]
                print(f"{name:16} {patience:7.1f} s {after:7.1f} s  {found.detail[:230]}")
        finally:
            for training in made.values():
                training.end()
    mark()


def mark() -> None:
    """Two attribute writes a turn, against the loop around them."""
    setup = "from sitter_agent.progress import Progress; from sitter_wire.phases import LOADING, STEP; p = Progress()"
    count = 2_000_000
    empty = min(timeit.repeat("pass", setup, number=count, repeat=5))
    marked = min(timeit.repeat("p.phase = LOADING; p.phase = STEP", setup, number=count, repeat=5))
    print(f"the phase mark of one turn (two writes): {(marked - empty) / count * 1e9:.0f} ns")
    print(json.dumps({"phase_mark_ns": round((marked - empty) / count * 1e9, 1)}))


if __name__ == "__main__":
    main()
