"""The agent's part of a drill: what is poisoned, and that a fault comes once."""

import math

import numpy as np
import pytest

from sitter_agent.drill import HANGS, _poisoned, poison
from sitter_agent.generic_state import GenericAdapter
from sitter_wire import drill


class Holder:
    """As much of a core as poisoning looks at."""

    def __init__(self, adapter):
        self.adapter = adapter


def test_the_first_floating_leaf_becomes_nan_and_nothing_else_changes():
    tree = {"steps": 3, "name": "adam", "w": {"a": (1, 2.5, 3.5)}, "rest": [7.0]}
    new, path = _poisoned(tree, "")
    assert path == "w/a/1"
    assert math.isnan(new["w"]["a"][1])
    assert (new["steps"], new["name"], new["w"]["a"][0], new["w"]["a"][2], new["rest"]) == (3, "adam", 1, 3.5, [7.0])
    assert tree["w"]["a"] == (1, 2.5, 3.5), "the script's own may be what it was handed"


def test_an_array_becomes_nan_whole_and_whole_numbers_are_left_alone():
    new, path = _poisoned({"rows": np.arange(3), "w": np.ones((2, 2), np.float32)}, "")
    assert path == "w"
    assert np.isnan(new["w"]).all()
    assert new["rows"].tolist() == [0, 1, 2]
    assert _poisoned({"rows": np.arange(3), "n": 4}, "")[1] == ""


def test_a_framework_free_state_is_poisoned_through_its_own_load():
    weights = np.ones(4)
    adapter = GenericAdapter()
    adapter.register(lambda: {"w": weights}, lambda state: np.copyto(weights, state["w"]))
    assert poison(Holder(adapter)) == "w in the state was made NaN"
    assert np.isnan(weights).all()


def test_a_state_without_numbers_cannot_be_poisoned():
    adapter = GenericAdapter()
    adapter.register(lambda: {"n": 3}, lambda state: None)
    with pytest.raises(ValueError, match="holds no floating-point number"):
        poison(Holder(adapter))


def test_the_last_trained_parameter_of_a_torch_model_becomes_nan():
    torch = pytest.importorskip("torch")
    from sitter_agent.frameworks.torch import TorchAdapter

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    model[1].bias.requires_grad_(False)
    adapter = TorchAdapter(model, torch.optim.SGD(model[0].parameters(), lr=0.1))
    assert poison(Holder(adapter)) == "the parameter 1.weight was made NaN"
    assert torch.isnan(model[1].weight).all()
    assert not adapter.finite()
    assert torch.isfinite(model[0].weight).all()
    adapter.close()


def test_every_fault_that_the_agent_plants_is_there():
    assert {"nan", *HANGS} == set(drill.BY_AGENT)


def test_the_three_files_are_whole_or_not_there(tmp_path):
    assert drill.told(tmp_path, drill.READY) is None
    drill.tell(tmp_path, drill.READY, step=3, snapshots=8)
    assert drill.told(tmp_path, drill.READY) == {"step": 3, "snapshots": 8}
    (tmp_path / drill.GO).write_text("{")
    assert drill.told(tmp_path, drill.GO) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == [drill.GO, drill.READY]
