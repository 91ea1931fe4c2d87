"""The structure's own promises: what the training process is made to import, and names that others own."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAVY = ("asyncio", "sqlite3", "numpy", "torch", "textual", "click", "psutil", "sitter")


def test_the_agent_brings_only_pyzmq_and_msgspec_into_the_training_process():
    code = "import sys, json; import sitter_agent; sitter_agent.start; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(out.stdout)}
    assert not loaded & set(HEAVY)


def test_the_screen_does_not_bring_the_daemon_itself():
    code = "import sys, json; import sitter.cli.attach; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = json.loads(out.stdout)
    assert not [name for name in loaded if name.startswith(("sitter.control", "sitter.rules", "sitter.store"))]
    assert not {"sqlite3", "numpy"} & set(loaded), "0.2 s of imports are a third of the time until its first picture"


def test_agents_is_no_package_since_another_project_owns_that_name():
    assert not (ROOT / "agents" / "__init__.py").exists()


def test_no_file_has_grown_past_what_one_can_hold_in_the_head():
    long = {
        str(p.relative_to(ROOT)): n
        for folder in ("sitter", "agents")
        for p in (ROOT / folder).rglob("*.py")
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long
