"""The real binding against a driver that does as it is told."""

import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sitter.host.sampler import HANG_LOOKS, Sampler
from sitter.testing.manual_clock import ManualClock

Probe = Any  # the class stands in conftest, which --import-mode=importlib does not let us import

HEALTHY = (
    "count 1", "util 86", "used 62277025792", "total 85899345920", "temp 56", "power 649500", "limit 700000",
    "clock 1755", "reasons 0x5", "energy 123456", "ecc 0",
)  # fmt: skip


def gpu(sample: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return next((g for g in sample["gpus"] if g["index"] == index), {})


def test_every_figure_is_read_in_our_units(probe: Probe) -> None:
    probe.driver(*HEALTHY)
    probe.start()
    seen = gpu(probe.until(lambda s: s["gpus"]))
    assert seen == {
        "index": 0, "uuid": "GPU-00000000-aaaa-bbbb-cccc-0123456789ab", "name": "NVIDIA Stub 80GB", "util": 86.0,
        "mem_used": 62277025792, "mem_total": 85899345920, "temp": 56.0, "power": 649.5, "power_limit": 700.0,
        "sm_clock": 1755.0, "throttle": ["power cap"], "note": "", "used_by_run": None, "energy": 123.456,
        "ecc_errors": 0, "xids": [],
    }  # fmt: skip
    assert probe.samples[-1]["host"]["gpu_note"] == ""
    assert probe.said() == []


def test_what_changes_is_seen_at_the_next_look(probe: Probe) -> None:
    probe.driver(*HEALTHY)
    probe.start()
    probe.until(lambda s: gpu(s).get("util") == 86)
    probe.driver(*HEALTHY, "util 3", "reasons 0xe8")
    seen = gpu(probe.until(lambda s: gpu(s).get("util") == 3))
    assert seen["throttle"] == ["hardware slowdown", "too hot (driver)", "too hot (hardware)", "power brake"]


FIGURES = [
    ("util", "util", "utilisation"), ("memory", "mem_used", "memory"), ("temp", "temp", "temperature"),
    ("power", "power", "power"), ("limit", "power_limit", "power limit"), ("clock", "sm_clock", "clock"),
    ("energy", "energy", "energy"), ("ecc", "ecc_errors", "memory errors"),
]  # fmt: skip


def count(probe: Probe, call: str) -> int:
    return int(probe.calls.read_text().split().count(call))


def backed_off(since: float) -> float:
    """How often at most one is asked from then on who is asked again after 1 s, 2 s, 4 s…"""
    return 1 + math.log2(1 + time.monotonic() - since)


@pytest.mark.parametrize(("call", "field", "words"), FIGURES)
def test_a_figure_without_permission_is_dropped_and_said(probe: Probe, call: str, field: str, words: str) -> None:
    probe.driver(*HEALTHY, f"{call}.error 4")
    probe.start()
    probe.until(lambda s: s["gpus"])
    seen = gpu(probe.until(lambda s: len(probe.samples) > 5))
    assert seen[field] is None
    assert seen["note"] == f"no permission for {words}"
    assert all(seen[other] is not None for _, other, _ in FIGURES if other != field)
    assert count(probe, f"0.{call}") == 1


@pytest.mark.parametrize("code", [3, 13])
def test_a_figure_that_is_not_supported_is_not_asked_for_again(probe: Probe, code: int) -> None:
    probe.driver(*HEALTHY, f"power.error {code}")
    probe.start()
    probe.until(lambda s: s["gpus"])
    seen = gpu(probe.until(lambda s: len(probe.samples) > 5))
    assert (seen["power"], seen["note"], seen["temp"]) == (None, "", 56)
    assert count(probe, "0.power") == 1


@pytest.mark.parametrize("code", [10, 20])
def test_a_time_out_is_tried_again_and_the_figure_comes_back(probe: Probe, code: int) -> None:
    probe.driver(*HEALTHY, f"power.error {code}")
    probe.start()
    seen = gpu(probe.until(lambda s: s["gpus"]))
    assert (seen["power"], seen["temp"]) == (None, 56)
    assert count(probe, "0.power") >= 2
    probe.driver(*HEALTHY)
    probe.until(lambda s: gpu(s)["power"] == 649.5)
    assert probe.said() == []


def test_an_unknown_error_of_one_figure_costs_only_that_one_and_is_asked_with_back_off(probe: Probe) -> None:
    began = time.monotonic()
    probe.driver(*HEALTHY, "power.error 999")
    probe.start()
    seen = gpu(probe.until(lambda s: s["gpus"]))
    assert (seen["power"], seen["temp"], seen["note"]) == (None, 56, "no power for now: Unknown Error")
    probe.until(lambda s: len(probe.samples) > 10)
    assert count(probe, "0.power") <= backed_off(began)
    probe.driver(*HEALTHY)
    assert gpu(probe.until(lambda s: gpu(s)["power"] == 649.5))["note"] == ""


@pytest.mark.parametrize("code", [15, 16])
def test_a_gpu_lost_in_mid_run_is_an_alarm_once_and_the_other_goes_on(probe: Probe, code: int) -> None:
    two = ("count 2", *HEALTHY[1:], "1.util 40")
    probe.driver(*two)
    probe.start()
    probe.until(lambda s: gpu(s, 1).get("util") == 40)
    probe.driver(*two, f"1.all.error {code}")
    lost = probe.until(lambda s: s["alarms"])
    assert lost["alarms"][0].startswith("GPU 1 (NVIDIA Stub 80GB) is lost (GPU ")
    assert gpu(lost, 1)["util"] is None
    assert gpu(lost, 1)["note"].startswith("lost: ")
    probe.until(lambda s: count(probe, "-1.init") >= 2)  # it was looked for again
    assert len(probe.said()) == 1
    assert gpu(probe.samples[-1], 0)["util"] == 86
    probe.driver(*two)
    back = probe.until(lambda s: gpu(s, 1)["util"] == 40)
    assert back["alarms"] == ["GPU 1 (NVIDIA Stub 80GB) answers again"]


@pytest.mark.parametrize("code", [1, 9, 18])
def test_a_driver_that_goes_down_is_said_once_and_opened_again_with_back_off(probe: Probe, code: int) -> None:
    probe.driver(*HEALTHY)
    probe.start()
    probe.until(lambda s: gpu(s).get("util") == 86)
    began = time.monotonic()
    probe.driver(*HEALTHY, f"util.error {code}", f"init.error {code}")
    down = probe.until(lambda s: s["alarms"])
    assert down["alarms"] == ["the NVIDIA driver stopped answering; the run may not survive that"]
    assert gpu(down)["util"] is None
    assert gpu(down)["name"] == "NVIDIA Stub 80GB"
    noted = probe.until(lambda s: "does not answer (" in s["host"]["gpu_note"])
    assert noted["gpus"][0]["temp"] is None
    before = len(probe.samples)
    probe.until(lambda s: len(probe.samples) > before + 15)
    assert count(probe, "-1.init") <= 1 + backed_off(began)
    probe.driver(*HEALTHY)
    back = probe.until(lambda s: gpu(s)["util"] == 86)
    assert back["alarms"] == ["the NVIDIA driver answers again"]
    assert back["host"]["gpu_note"] == ""
    assert len(probe.said()) == 2


@pytest.mark.parametrize("code", [1, 9, 18, 999])
def test_a_driver_that_cannot_be_opened_is_a_note_and_no_alarm_until_it_can(probe: Probe, code: int) -> None:
    probe.driver(*HEALTHY, f"init.error {code}")
    probe.start()
    seen = probe.until(lambda s: "does not answer" in s["host"]["gpu_note"])
    assert seen["gpus"] == []
    assert seen["host"]["mem_total"] > 0
    probe.driver(*HEALTHY)
    probe.until(lambda s: gpu(s).get("util") == 86)
    assert probe.said() == []


def test_an_older_driver_is_asked_in_the_older_way(probe: Probe) -> None:
    probe.driver(*HEALTHY, "memory.error 13", "reasons.error 13", "old_reasons 0x4")
    probe.start()
    seen = gpu(probe.until(lambda s: s["gpus"]))
    assert seen["mem_used"] == 62277025793
    assert seen["throttle"] == ["power cap"]
    probe.until(lambda s: len(probe.samples) > 5)
    assert count(probe, "0.memory") == 1


def test_a_driver_call_that_hangs_is_noticed_and_the_host_goes_on(probe: Probe) -> None:
    probe.driver(*HEALTHY)
    probe.start(hang=1.5)
    probe.until(lambda s: gpu(s).get("util") == 86)
    probe.driver(*HEALTHY, "power.hang 1")
    hung = probe.until(lambda s: s["alarms"])
    assert hung["alarms"][0].startswith("the NVIDIA driver has not answered nvmlDeviceGetPowerUsage for ")
    assert gpu(hung)["util"] is None
    assert "has not answered" in gpu(hung)["note"]
    after = len(probe.samples)
    probe.until(lambda s: len(probe.samples) > after + 10)
    assert probe.samples[-1]["host"]["disk_free"] > 0
    assert len(probe.said()) == 1
    probe.driver(*HEALTHY)
    back = probe.until(lambda s: gpu(s)["util"] == 86)
    assert back["alarms"][0].startswith("the NVIDIA driver answers again after ")


def test_one_look_that_is_late_calls_no_driver_hung(tmp_path: Path) -> None:
    """The daemon was stopped in the midst of a call: it is older than it would be, and may be answered at once."""
    clock = ManualClock()
    sampler = Sampler(tmp_path, clock, lambda _: None)
    sampler._gpus.driver.asking = ("nvmlDeviceGetName", clock.monotonic())
    clock.advance(3600.0)
    said = [sampler._notice_hang() for _ in range(HANG_LOOKS)]
    sampler.close()
    assert [bool(text) for text in said] == [False] * (HANG_LOOKS - 1) + [True]


def test_a_driver_that_hangs_does_not_keep_the_daemon_from_ending(probe: Probe) -> None:
    probe.driver(*HEALTHY, "init.hang 1")
    probe.start(hang=0.2)
    probe.until(lambda s: "has not answered nvmlInit" in "".join(s["alarms"]))
    assert probe.close() < 30


def test_an_xid_event_is_told_once_with_its_gpu_and_stays_with_it(probe: Probe) -> None:
    two = ("count 2", *HEALTHY[1:])
    probe.driver(*two)
    probe.start()
    probe.until(lambda s: s["gpus"])
    probe.driver(*two, "xid 1:1:79")
    seen = probe.until(lambda s: s["xids"])
    assert seen["xids"] == [["GPU 1 (NVIDIA Stub 80GB)", 79]]
    assert [[x["code"] for x in g["xids"]] for g in seen["gpus"]] == [[], [79]]
    probe.driver(*two, "xid 2:0:4711")
    seen = probe.until(lambda s: s["xids"])
    assert [[x["code"] for x in g["xids"]] for g in seen["gpus"]] == [[4711], [79]]
    assert sum(len(s["xids"]) for s in probe.samples) == 2
    assert probe.said() == []


def test_xid_events_are_heard_again_after_the_driver_was_opened_again(probe: Probe) -> None:
    probe.driver(*HEALTHY)
    probe.start()
    probe.until(lambda s: gpu(s).get("util") == 86)
    probe.driver(*HEALTHY, "xid 1:0:63")
    probe.until(lambda s: s["xids"])
    probe.driver(*HEALTHY, "util.error 1")
    probe.until(lambda s: s["alarms"])
    probe.driver(*HEALTHY)
    probe.until(lambda s: gpu(s)["util"] == 86)
    probe.driver(*HEALTHY, "xid 2:0:48")
    seen = probe.until(lambda s: s["xids"])
    assert [x["code"] for x in gpu(seen)["xids"]] == [63, 48]  # what was heard before is not forgotten
    assert probe.samples[-1]["threads"].count("sitter-xid") == 1


def test_a_gpu_without_xid_events_is_watched_all_the_same(probe: Probe) -> None:
    probe.driver(*HEALTHY, "register.error 3")
    probe.start()
    probe.until(lambda s: gpu(s).get("util") == 86 and "sitter-xid" not in s["threads"])


def test_which_gpu_the_run_uses_is_what_the_agent_said(probe: Probe) -> None:
    two = ("count 2", *HEALTHY[1:])
    probe.driver(*two)
    probe.start(slow=60)
    probe.until(lambda s: len(s["gpus"]) == 2)
    probe.watch(probe.pid, "00000001-AAAA-bbbb-cccc-0123456789ab")  # as torch writes it
    seen = probe.until(lambda s: gpu(s, 1)["used_by_run"] is not None)
    assert [g["used_by_run"] for g in seen["gpus"]] == [False, True]
    before = count(probe, "0.util")
    probe.until(lambda s: count(probe, "1.util") > before + 10)
    assert count(probe, "0.util") <= before + 1  # the other GPU is looked at with the slow figures only


def test_without_word_from_the_agent_the_process_list_tells_or_nobody_does(probe: Probe) -> None:
    two = ("count 2", *HEALTHY[1:])
    probe.driver(*two, f"1.processes 4711:5,{os.getpid()}:-")
    probe.start()
    probe.until(lambda s: len(s["gpus"]) == 2)
    probe.watch(os.getpid())
    seen = probe.until(lambda s: gpu(s, 1)["used_by_run"] is not None)
    assert [g["used_by_run"] for g in seen["gpus"]] == [False, True]
    probe.driver(*two, "1.processes 4711:5")  # a container: pids of another namespace
    seen = probe.until(lambda s: gpu(s, 1)["used_by_run"] is None)
    assert gpu(seen, 0)["used_by_run"] is None


def test_a_mig_slice_is_found_by_its_uuid_and_its_memory_shown(probe: Probe) -> None:
    probe.driver(*HEALTHY, "mig 1", "util.error 3", "processes.error 3")
    probe.start()
    seen = gpu(probe.until(lambda s: s["gpus"]))
    assert (seen["util"], seen["mem_total"], seen["used_by_run"]) == (None, 85899345920, None)
    assert seen["note"] == "MIG is on: figures are of the whole GPU"
    probe.watch(probe.pid, "MIG-11111111-2222-3333-4444-555555555555")
    seen = gpu(probe.until(lambda s: gpu(s)["used_by_run"]))
    assert (seen["mem_used"], seen["mem_total"]) == (7, 10)
    assert seen["note"] == "MIG is on: memory is of the run’s slice"


def test_a_driver_that_knows_no_gpu_is_a_note(probe: Probe) -> None:
    probe.driver("count 0")
    probe.start()
    probe.until(lambda s: s["host"]["gpu_note"] == "the NVIDIA driver knows no GPU, so no GPU figures")
    assert probe.said() == []


def test_a_name_that_is_no_text_is_survived(probe: Probe) -> None:
    probe.driver(*HEALTHY, "name.error 17")
    probe.start()
    assert gpu(probe.until(lambda s: s["gpus"]))["name"] == "NVIDIA GPU"


def test_a_machine_without_a_gpu_says_so_and_does_not_even_load_the_binding(bare_probe: Probe) -> None:
    bare_probe.start()
    seen = bare_probe.until(lambda s: "no NVIDIA driver" in s["host"]["gpu_note"])
    assert (seen["gpus"], seen["alarms"], seen["binding"]) == ([], [], False)
    bare_probe.until(lambda s: len(bare_probe.samples) > 3)
    assert bare_probe.close() < 30
