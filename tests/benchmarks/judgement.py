"""How good is the judgement? The default rules on training logs that other people published, beside the rules of five other tools.

    python tests/benchmarks/judgement.py [--logs DIRECTORY] [--rule NAME]... [--workers 2] [--show] [--but GROUP]... [--only GROUP]...

Every run of ``index.csv`` is told to the rules point by point, exactly as ``sitter replay`` does it: the real engine, the real
dispatcher under the default preset, the data's own clock. Nothing looks ahead. Printed are, of the healthy runs, how many would have
been touched unasked, alarmed (a finding of at least ``warning``) or asked about; of the labelled troubles, how many were seen and how
many logged points after they began (within 5: a hit). ``--rule`` keeps to some of our rules; ``--show`` names every false alarm and
every miss; ``--but`` and ``--only`` choose by source or by group, for figures on what was held out while something was built.

The labels: what became not finite is explicit (it stands in the log); spikes, divergences, overfitting and plateaus are judged, most
of them by a trailing median and a look at the plot, and so not independent of a detector that uses medians.
"""

import argparse
import csv
import math
import statistics
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from elsewhere import ELSEWHERE, Watcher

from sitter.config import Config
from sitter.replay.from_csv import from_csv
from sitter.replay.player import Line, Player
from sitter.replay.story import Story
from sitter.rules.view import Sample

LOGS = Path(__file__).parents[3] / "shared" / "logs"
HIT = 5
"""Logged points after a trouble began within which an alarm counts as having seen it."""
SUDDEN = ("spike", "divergence")
SLOW = ("overfit", "plateau")
ALARMING = ("warning", "critical")
TOUCHES = ("set", "rollback", "drop", "pause", "stop", "checkpoint")
OURS = "sitter"


class Label(NamedTuple):
    """``what`` began at ``step``."""

    what: str
    step: int


@dataclass(frozen=True)
class Run:
    """One published run: a line of ``index.csv``."""

    path: Path
    source: str
    group: str
    kind: str
    healthy: bool
    labels: tuple[Label, ...]


@dataclass
class Alarm:
    """A finding of at least ``warning``, at a logged point."""

    at: int
    rule: str
    text: str


@dataclass
class Verdict:
    """What one set of rules made of one run."""

    points: int = 0
    alarms: list[Alarm] = field(default_factory=list)
    critical: int = 0
    acts: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    delays: dict[Label, int | None] = field(default_factory=dict)
    """Logged points until a label was seen; None: it was not."""
    unhealed: dict[int, int | None] = field(default_factory=dict)
    """By the point at which something began that did not heal (a divergence, or what is not finite): points until something was done
    about it unasked. None: nothing was."""
    lost: dict[int, int | None] = field(default_factory=dict)
    """By the point at which a signal that had been finite was finite no more: points until that was said."""


def read_index(logs: Path) -> list[Run]:
    """What is scored: healthy and troubled runs. Raises OSError."""
    with (logs / "index.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["score_as"] in ("benign", "trouble")]
    return [
        Run(
            path=logs / "runs" / row["file"], source=row["file"].split("__")[0], group=row["group"], kind=row["kind"],
            healthy=row["score_as"] == "benign",
            labels=tuple(Label(what, int(at.split("-")[0])) for what, _, at in (s.partition("@") for s in row["labels"].split(";")) if at),
        )
        for row in rows
    ]  # fmt: skip


def judged(run: Run, rules: tuple[str, ...] = ()) -> dict[str, Verdict]:
    """The verdicts of ours and of all others on one run."""
    samples = [item for item in from_csv(run.path).items if isinstance(item, Sample)]
    verdicts = {OURS: ours(run, samples, rules)}
    if not rules:
        verdicts |= {name: theirs(run, samples, make()) for name, make in ELSEWHERE.items()}
    return verdicts


def ours(run: Run, samples: list[Sample], rules: tuple[str, ...]) -> Verdict:
    """The default rules, or some of them."""
    steps = [sample.step for sample in samples]
    player = Player(Config(), "the defaults")
    lines = list(player.play(Story(name=run.path.name, items=iter(samples), timed=False)))
    lines = [line for line in lines if not rules or line.rule in rules]
    verdict = Verdict(points=len(samples))
    verdict.alarms = [Alarm(bisect_left(steps, x.step), x.rule, x.text) for x in lines if x.severity in ALARMING]
    verdict.critical = sum(line.severity == "critical" for line in lines)
    verdict.acts = [f"{line.rule}: {line.text}" for line in lines if line.acts and touches(line)]
    verdict.asks = [f"{line.rule}: {line.text}" for line in lines if line.action is not None and line.mode == "ask"]
    _seen(verdict, run, steps, [a.at for a in verdict.alarms], lambda what: sorted(
        bisect_left(steps, line.step) for line in lines if line.rule == what and line.evidence.get("recovered") is None
    ))  # fmt: skip
    said = [bisect_left(steps, x.step) for x in lines if x.severity in ALARMING and any(w in x.text for w in (" nan", " inf", " -inf"))]
    verdict.lost = {at: _delay(said, at, len(samples)) for at in not_finite(samples)}
    began = [bisect_left(steps, label.step) for label in run.labels if label.what == "divergence"] or list(verdict.lost)[:1]
    acted = [bisect_left(steps, line.step) for line in lines if line.acts and touches(line)]
    verdict.unhealed = {at: _delay(acted, at, len(samples)) for at in began}
    return verdict


def touches(line: Line) -> bool:
    """Its action does something to the training, and does not only tell somebody."""
    return any(part.split()[0] in TOUCHES for part in (line.action or "").split("; ") if part)


def theirs(run: Run, samples: list[Sample], watch: Watcher) -> Verdict:
    """A rebuilt rule: all it does is raise alarms."""
    alarms = [Alarm(i, "", "") for i, sample in enumerate(samples) if watch(sample.values)]
    verdict = Verdict(points=len(samples), alarms=alarms)
    _seen(verdict, run, [sample.step for sample in samples], [a.at for a in alarms], lambda what: [])
    return verdict


def _seen(verdict: Verdict, run: Run, steps: list[int], alarms: list[int], of_rule: Callable[[str], list[int]]) -> None:
    for label in run.labels:
        at = bisect_left(steps, label.step)
        if label.what in SUDDEN:
            verdict.delays[label] = _delay(alarms, at, at + HIT)
        elif label.what in SLOW:
            verdict.delays[label] = _delay(of_rule(label.what), at, len(steps))


def _delay(found: list[int], at: int, until: int) -> int | None:
    """Points from ``at`` to the first of the sorted ``found`` that is neither before it nor beyond ``until``."""
    i = bisect_left(found, at)
    return found[i] - at if i < len(found) and found[i] <= until else None


def not_finite(samples: Iterable[Sample]) -> Iterator[int]:
    """Points at which a signal is not finite for the first time, having been finite before."""
    started: set[str] = set()
    over: set[str] = set()
    for i, sample in enumerate(samples):
        new = {name for name, value in sample.values.items() if not math.isfinite(value) and name in started and name not in over}
        started.update(name for name, value in sample.values.items() if math.isfinite(value))
        over |= new
        if new:
            yield i


# -- the figures ---------------------------------------------------------------------------------------------------------

Judged = list[tuple[Run, dict[str, Verdict]]]


def judge(runs: list[Run], workers: int = 1, rules: tuple[str, ...] = ()) -> Judged:
    """Every run, in order."""
    work = partial(judged, rules=rules)
    if workers == 1:
        return [(run, work(run)) for run in runs]
    with ProcessPoolExecutor(workers) as pool:
        return list(zip(runs, pool.map(work, runs, chunksize=8), strict=True))


class Figures(NamedTuple):
    """Of one set of rules on some runs. Shares are None where there is nothing to take a share of."""

    healthy: int
    steps: int
    touched: int
    asked: int
    critical: int
    alarmed: int
    acts: int
    asks: int
    criticals: int
    alarms: int
    labels: int
    hits: int
    delay: float | None

    @property
    def alarmed_share(self) -> float | None:
        """Of the healthy runs, those with an alarm."""
        return self.alarmed / self.healthy if self.healthy else None

    @property
    def hit_share(self) -> float | None:
        """Of the labelled spikes and divergences, those seen within 5 logged points."""
        return self.hits / self.labels if self.labels else None


def figures(judged: Judged, name: str = OURS) -> Figures:
    """The sums of one set of rules."""
    healthy = [verdicts[name] for run, verdicts in judged if run.healthy]
    delays = [d for _, verdicts in judged for label, d in verdicts[name].delays.items() if label.what in SUDDEN]
    seen = [d for d in delays if d is not None]
    return Figures(
        healthy=len(healthy), steps=sum(v.points for v in healthy), touched=sum(bool(v.acts) for v in healthy),
        asked=sum(bool(v.asks) for v in healthy), critical=sum(bool(v.critical) for v in healthy),
        alarmed=sum(bool(v.alarms) for v in healthy), acts=sum(len(v.acts) for v in healthy), asks=sum(len(v.asks) for v in healthy),
        criticals=sum(v.critical for v in healthy), alarms=sum(len(v.alarms) for v in healthy),
        labels=len(delays), hits=len(seen), delay=statistics.median(seen) if seen else None,
    )  # fmt: skip


def share(part: int, of: int) -> str:
    """``.012 (3 of 256)``."""
    return f"{part / of:.4f} ({part} of {of})" if of else "–"


def table(judged: Judged) -> Iterator[str]:
    """The lines that are printed."""
    names = list(judged[0][1])
    mine = figures(judged)
    yield f"healthy runs: {mine.healthy}, {mine.steps:,} logged points"
    for what, runs, times in (
        ("touched unasked", mine.touched, mine.acts), ("a critical finding", mine.critical, mine.criticals),
        ("a finding of at least warning", mine.alarmed, mine.alarms), ("asked about", mine.asked, mine.asks),
    ):  # fmt: skip
        rate = 1e5 * times / mine.steps if mine.steps else 0.0
        yield f"  {what:32}{share(runs, mine.healthy):24}{rate:8.2f} per 100,000 points"
    lost = [(run, at, delay) for run, verdicts in judged for at, delay in verdicts[OURS].lost.items()]
    late = sorted(delay for _, _, delay in lost if delay is not None)
    yield f"no longer finite (explicit): said {share(len(late), len(lost))}" + (f", after at most {late[-1]} points" if late else "")
    ends = [delay for _, verdicts in judged for delay in verdicts[OURS].unhealed.values()]
    done = [delay for delay in ends if delay is not None]
    yield f"what did not heal (divergences, not finite): acted on unasked {share(len(done), len(ends))}" + (
        f", median {statistics.median(done):g}, at most {max(done)} points after it began" if done else ""
    )
    for what in (*SUDDEN, *SLOW):
        delays = [d for _, v in judged for label, d in v[OURS].delays.items() if label.what == what]
        seen = sorted(d for d in delays if d is not None)
        within = f" within {HIT} points" if what in SUDDEN else ""
        after = f", median {statistics.median(seen):g} points after it began" if seen else ""
        yield f"{what} (judged): seen{within} {share(len(seen), len(delays))}{after}"
    yield ""
    yield f"{'':14}{'alarms on healthy runs':28}{'spikes and divergences seen within 5 points':46}median delay"
    for name in names:
        f = figures(judged, name)
        yield f"{name:14}{share(f.alarmed, f.healthy):28}{share(f.hits, f.labels):46}{'–' if f.delay is None else format(f.delay, 'g')}"
    for title, key in (("by source", lambda run: run.source), ("by group", lambda run: run.group)):
        yield ""
        yield f"{title:34}{'touched':18}{'alarmed':20}{'asked':20}{'seen':22}"
        for value in sorted({key(run) for run, _ in judged}):
            f = figures([(run, v) for run, v in judged if key(run) == value])
            yield (
                f"  {value:32}{share(f.touched, f.healthy):18}{share(f.alarmed, f.healthy):20}{share(f.asked, f.healthy):20}"
                f"{share(f.hits, f.labels):22}"
            )


def details(judged: Judged) -> Iterator[str]:
    """Every false alarm and every miss."""
    for run, verdicts in judged:
        verdict = verdicts[OURS]
        if run.healthy:
            said = [f"{a.rule}: {a.text}" for a in verdict.alarms]
            if said:
                yield f"false: {run.path.name}: {len(said)} ×, first {said[0]}"
            yield from (f"acts: {run.path.name}: {text}" for text in verdict.acts)
            yield from (f"asks: {run.path.name}: {text}" for text in verdict.asks[:1])
        yield from (f"missed: {run.path.name}: {label.what}@{label.step}" for label, d in verdict.delays.items() if d is None)
        yield from (f"not acted on: {run.path.name}: point {at}" for at, d in verdict.unhealed.items() if d is None)
        yield from (f"not finite, late: {run.path.name}: point {at}: {d}" for at, d in verdict.lost.items() if d != 0)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=LOGS)
    parser.add_argument("--rule", action="append", default=[])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--but", action="append", default=[])
    parser.add_argument("--only", action="append", default=[])
    asked = parser.parse_args()
    if not (asked.logs / "index.csv").is_file():
        print(f"no published logs at {asked.logs}: expected index.csv and runs/*.csv there; --logs names another place")
        return 0
    runs = [
        run for run in read_index(asked.logs)
        if not {run.source, run.group} & set(asked.but) and (not asked.only or {run.source, run.group} & set(asked.only))
    ]  # fmt: skip
    if not runs:
        print("no run of such a source or group")
        return 2
    found = judge(runs, asked.workers, tuple(asked.rule))
    if asked.show:
        print(*details(found), sep="\n")
    print(*table(found), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
