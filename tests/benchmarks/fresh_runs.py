"""The rules on runs that nobody has looked at: real small trainings of many kinds, drawn by a seed, healthy ones and their troubled twins.

    python tests/benchmarks/fresh_runs.py [--seed 1] [--count 100] [--strangers] [--keep DIRECTORY] [--variants [LOG …]] [--show]

Each recipe (task, optimizer, schedule, batch, what is logged how often) is trained twice with the same batches: once as it is, once with
a trouble planted somewhere in the midst. The two are written as ``sitter replay`` reads them and told to the default rules. Where the
trouble shows is not judged by a detector but by the twin: the first logged point from which on three in a row stand 1.35 × above it, and
clear of the noise; it has healed if the last tenth stands no more than 1.2 × above. A twin without trouble counts as healthy if its
training loss ends near its lowest (by means of tenths; reinforcement learning and two players always do), as one that overfits if its
validation loss does not; else it is left out, and that is said.

``--strangers`` draws other recipes, of kinds that are odd on purpose: ``fresh_strangers.py``.
``--variants`` tells the same runs again as other logs would have them: columns missing, rounded, smoothed, averaged, sparse, thirty points,
doubled, out of order, started again, on other scales. ``--keep`` leaves the CSVs in a directory, and reads them from there next time.
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from fresh_logs import LOGS, TRUE, Row
from fresh_recipes import Recipe, drawn, healed, shows, state, train
from judgement import ALARMING, HIT, touches

from sitter.config import Config
from sitter.replay.from_csv import from_csv
from sitter.replay.player import Line, Player

# -- what the rules say --------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """A recipe, done. ``state`` of its twin without trouble; ``shows`` and ``healed`` of the other."""

    recipe: Recipe
    twin: list[Row]
    rows: list[Row]
    state: str
    shows: int | None
    healed: bool


@dataclass
class Said:
    """What the rules said of one log: points at which there were alarms, unasked acts and questions."""

    points: int = 0
    alarms: list[tuple[int, Line]] = field(default_factory=list)
    acts: list[tuple[int, Line]] = field(default_factory=list)
    asks: list[tuple[int, Line]] = field(default_factory=list)
    lines: list[tuple[int, Line]] = field(default_factory=list)


def trained(seed: int, number: int, keep: Path, strange: bool = False) -> Trained:
    """From the directory if it is there already."""
    recipe, place = drawn(seed, number, strange), keep / f"{'strange-' if strange else ''}{seed}-{number}"
    paths = place.with_name(f"{place.name}-twin.csv"), place.with_name(f"{place.name}-trouble.csv")
    for path, trouble in zip(paths, ("", recipe.trouble), strict=True):
        if not path.exists():
            write(path, train(recipe, trouble))
    twin, rows = map(read, paths)
    return Trained(recipe, twin, rows, state(recipe, twin), shows(recipe, twin, rows), healed(twin, rows))


def write(path: Path, rows: list[Row]) -> None:
    """As ``sitter replay`` reads it."""
    names = list(dict.fromkeys(["step", *(name for row in rows for name in row if name != TRUE)]))
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(names)
        for row in rows:
            out.writerow([int(row["step"]), *(repr(row[name]) if name in row else "" for name in names[1:])])


def read(path: Path) -> list[Row]:
    """The same back."""
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def told(rows: list[Row], place: Path) -> Said:
    """The default rules on these rows, told as ``sitter replay`` tells them."""
    player, said = Player(Config(), "the defaults"), Said()
    if not rows:
        return said
    write(place, rows)
    for line in player.play(from_csv(place)):
        at = player.samples - 1
        said.lines.append((at, line))
        if line.severity in ALARMING:
            said.alarms.append((at, line))
        if line.acts and touches(line):
            said.acts.append((at, line))
        elif line.action is not None and line.mode == "ask":
            said.asks.append((at, line))
    said.points = player.samples
    return said


EXPECTED = {
    "tiny set": ("overfit",), "one batch for ever": ("overfit", "divergence", "spike", "guard"),
    "rate too low": ("plateau", "too_slow", "stuck_at_start"),
    "rate too high": ("warmup_missing", "stuck_at_start", "divergence", "guard", "spike", "plateau"),
}  # fmt: skip
"""Troubles that come slowly: which rules should say so at some time."""


@dataclass
class Tally:
    """Sums of some logs."""

    healthy: int = 0
    points: int = 0
    alarmed: int = 0
    acted: int = 0
    asked: int = 0
    alarms: int = 0
    troubles: int = 0
    seen: int = 0
    ever: int = 0
    delays: list[int] = field(default_factory=list)
    unhealed: int = 0
    mended: int = 0
    healing: int = 0
    needless: int = 0

    def twin(self, said: Said, state: str) -> list[str]:
        """A log without trouble; returns what was wrong."""
        own = ("overfit", "early_stop", "divergence") if state == "overfit" else ()
        alarms, acts, asks = ([x for x in lines if x[1].rule not in own] for lines in (said.alarms, said.acts, said.asks))
        self.healthy += 1
        self.points += said.points
        self.alarmed += bool(alarms)
        self.alarms += len(alarms)
        self.acted += bool(acts)
        self.asked += bool(asks)
        return [f"{'ACTS' if x in acts else 'asks' if x in asks else 'alarm'} {x[0]}: {x[1].rule}: {x[1].text}"
                for x in said.lines if x in alarms or x in acts or x in asks]  # fmt: skip

    def trouble(self, said: Said, done: Trained, rows: list[Row]) -> list[str]:
        """A log with trouble; returns what was missed."""
        recipe, missed = done.recipe, []
        if done.shows is None:
            return []
        expected = EXPECTED.get(recipe.trouble)
        if expected is not None:
            self.troubles += 1
            found = [at for at, line in said.lines if line.rule in expected]
            self.ever += bool(found)
            self.seen += bool(found)
            return [] if found else ["not seen"]
        at, visible = (next((i for i, row in enumerate(rows) if row[TRUE] >= s), len(rows)) for s in (recipe.at, done.shows))
        if visible + HIT >= len(rows):
            return []
        self.troubles += 1
        found = [i for i, _ in said.alarms if i >= at]
        self.ever += bool(found)
        if found and found[0] <= visible + HIT:
            self.seen += 1
            self.delays.append(max(0, found[0] - visible))
        else:
            missed.append(f"shows at {done.shows:,}, seen " + (f"{found[0] - visible} points later" if found else "never"))
        acts = [i for i, _ in said.acts if i >= at]
        if done.healed:
            self.healing += 1
            self.needless += bool(acts)
        else:
            self.unhealed += 1
            self.mended += bool(acts)
            missed += [] if acts else [f"does not heal (from {done.shows:,}), not acted on"]
        return missed

    def line(self) -> str:
        """Of a table."""
        delay = f"{statistics.median(self.delays):g}" if self.delays else "–"
        per = f"{1e5 * self.alarms / self.points:.1f}" if self.points else "–"
        return (
            f"{self.healthy:5}{self.points:9,} |{self.alarmed:6}{per:>7}{self.acted:6}{self.asked:6} |{self.troubles:6}{self.seen:6}"
            f"{self.ever:6}{delay:>6} |{self.mended:5} of {self.unhealed:3}{self.needless:5} of {self.healing:3}"
        )


HEAD = (
    f"{'':28}{'well':>5}{'points':>9} |{'alarm':>6}{'/100k':>7}{'acts':>6}{'asks':>6} |{'shows':>6}{'≤ 5':>6}{'ever':>6}{'delay':>6} |"
    f"{'unhealed, acted':>17}{'healed':>8}"
)


def marked(rows: list[Row]) -> list[Row]:
    """Each row with the step it is from."""
    return [{**row, TRUE: row["step"]} for row in rows]


def judged(runs: list[Trained], place: Path, name: str, change: Callable[[list[Row]], list[Row]], show: bool) -> dict[str, Tally]:
    """One kind of log: tallies by ``all``, by task and by trouble."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for done in runs:
        recipe = done.recipe
        about = f"{recipe.number} {recipe.task}, {recipe.optimizer}, {recipe.schedule}"
        if done.state == "unclear":
            continue
        said = told(rows := change(marked(done.twin)), place)
        for key in ("all", f"task {recipe.task}", f"schedule {recipe.schedule}", f"optimizer {recipe.optimizer}"):
            wrong = tallies[key].twin(said, done.state)
        if show and wrong:
            print(f"{name}: {about}, {done.state}: {len(wrong)} × {wrong[0]}")
        said = told(rows := change(marked(done.rows)), place)
        for key in ("all", f"trouble {recipe.trouble}"):
            missed = tallies[key].trouble(said, done, rows)
        if show and missed:
            print(f"{name}: {about}, {recipe.trouble}@{recipe.at}: {missed}")
    return tallies


def main() -> int:
    """Train, tell, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--strangers", action="store_true", help="kinds that are odd on purpose")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--variants", nargs="*", metavar="LOG", help="also told as other logs would have them; these, or all")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        keep = asked.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        runs = [trained(asked.seed, number, keep, asked.strangers) for number in range(asked.count)]
        (keep / f"{asked.seed}.jsonl").write_text("".join(json.dumps(asdict(run.recipe)) + "\n" for run in runs))
        place = Path(scratch) / "now.csv"
        states = [run.state for run in runs]
        print(f"{len(runs)} recipes: " + ", ".join(f"{states.count(s)} {s}" for s in ("healthy", "overfit", "unclear")))
        print(HEAD)
        chosen = ["as it is"] if asked.variants is None else asked.variants or list(LOGS)
        for name in chosen:
            change = LOGS[name]
            tallies = judged(runs, place, name, change, asked.show)
            for key in ("all", *sorted(set(tallies) - {"all"})) if name == "as it is" else ("all",):
                print(f"{name if key == 'all' else '  ' + key:28}{tallies[key].line()}")
    print(f"{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
