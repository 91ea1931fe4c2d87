"""A real Sampler in a process of its own, started against the stub driver. JSON lines on stdin and stdout."""

import json
import sys
import threading
from pathlib import Path

import msgspec

from sitter.clock import SystemClock
from sitter.host.sampler import HostSample, Sampler


def main() -> None:
    fast, slow, hang = map(float, sys.argv[2:5])
    lock = threading.Lock()

    def say(line: bytes) -> None:
        with lock:
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()

    def on_sample(sample: HostSample) -> None:
        threads = sorted(t.name for t in threading.enumerate())
        fields = msgspec.to_builtins(sample)
        say(json.dumps(fields | {"threads": threads, "binding": "pynvml" in sys.modules}).encode())

    sampler = Sampler(Path(sys.argv[1]), SystemClock(), on_sample, fast_s=fast, slow_s=slow, hang_s=hang)
    sampler.start()
    for line in sys.stdin:
        told = json.loads(line)
        sampler.watch(told["pid"], told["uuids"])
    sampler.close()
    say(json.dumps({"closed": True}).encode())


if __name__ == "__main__":
    main()
