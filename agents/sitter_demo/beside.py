"""What the looked-after run is compared with, in one process: the same training without troubles, then with them and alone.

    python -m sitter_demo.beside FOLDER --steps N --seed S --plant nan@STEP:LEN,lr@STEP
"""

import argparse
import sys
from pathlib import Path

from sitter_demo import threads  # noqa: F401 — before anything imports numpy
from sitter_demo.train import main as train


def main(argv: list[str] | None = None) -> int:
    """Writes ``clean.json`` and ``unattended.json`` into the folder. That the second one dies is no error here."""
    parser = argparse.ArgumentParser(prog="python -m sitter_demo.beside", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--plant", required=True)
    args = parser.parse_args(argv)
    for name, plant in (("clean", ""), ("unattended", args.plant)):
        print(f"{name}:", flush=True)
        out = args.folder / f"{name}.json"
        train(["--plain", "--steps", args.steps, "--seed", args.seed, "--plant", plant, "--out", str(out)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
