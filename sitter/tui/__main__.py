"""``python -m sitter.tui --fake``: the screens on a made-up run, without a daemon, for trying."""

import argparse
import tempfile
import threading
import time
from pathlib import Path

from sitter.testing.fake_reader import FakeReader
from sitter.tui.app import App


def main() -> None:
    """Runs until q."""
    parser = argparse.ArgumentParser(prog="python -m sitter.tui", description="try the screens on a made-up run")
    parser.add_argument("--fake", action="store_true", required=True, help="the made-up run; a real one is shown by `sitter attach`")
    parser.add_argument("--empty", action="store_true", help="a run without a single step")
    parser.add_argument("--ascii", action="store_true", help="no characters beyond ASCII")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reader = FakeReader(empty=given.empty, directory=folder)
        ended = threading.Event()
        printing = threading.Thread(target=_print, args=(Path(folder) / "train.log", reader, ended), daemon=True)
        printing.start()
        App(reader, run_name="char-lm", since=time.time() - 3600, ascii=given.ascii).run(mouse=False)
        ended.set()
        printing.join(2)


def _print(path: Path, reader: FakeReader, ended: threading.Event) -> None:
    """What the made-up training prints: a progress bar that overwrites itself, and a line of text now and then."""
    with path.open("a", encoding="utf-8") as file:
        file.write("\x1b[32mtokenizer\x1b[0m: 256 bytes, 41,2 MB of text\n")
        last = 0
        while not ended.is_set():
            step = reader.step
            if step // 5 != last:
                last = step // 5
                file.write(f"step {step - 1}: loss 1.5{step % 7}  |  tokens [{step * 16384:,}] [/b]\n")
            done = step * 40 // 20_000
            file.write(f"\r{step * 100 // 20_000:3d}%|{'█' * done}{' ' * (40 - done)}| {step}/20000 [2.40it/s]")
            file.flush()
            ended.wait(0.5)


if __name__ == "__main__":
    main()
