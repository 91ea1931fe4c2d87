"""A rule is told its own stories with the parameters that it is given, before anybody relies on it."""

import msgspec
import pytest

from sitter.config import parse
from sitter.control.ruleset.build import build
from sitter.control.ruleset.parameter_trial import try_parameters
from sitter.errors import ConfigError
from sitter.rules.catalogue import RULES


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("guard", "loss_factor = 0"), ("guard", "both_factor = -1"), ("spike", "factor = 0"), ("plateau", "share = -1"),
        ("oscillation", "z = 0"), ("exploding_gradients", "samples = 0"), ("too_slow", "floor = 0"), ("throughput", "minutes = inf"),
    ],
)
def test_a_value_with_which_a_rule_fails_is_refused_with_its_line(rule, said):
    """The guard would be switched off by its first error, and nobody guard the run."""
    text = f'[rules.{rule}]\nmode = "ask"\n{said}\n'
    with pytest.raises(ConfigError, match=rf"^a\.toml: \[rules\.{rule}\] \(line 3\): with {said}\S* the rule fails \(") as refused:
        build(parse(text, "a.toml"), "a.toml")
    assert str(refused.value).endswith(f"see `sitter rules show {rule}`")


def test_of_several_only_those_at_fault_are_named():
    text = "[rules.spike]\nz = 7.0\nruin = 0\nfactor = -1\n"
    with pytest.raises(ConfigError, match=r"\(line [34]\): with (factor = -1\.0 and ruin = 0\.0|ruin = 0\.0 and factor = -1\.0) the rule"):
        build(parse(text, "a.toml"), "a.toml")


def test_what_is_a_little_more_than_usual_is_refused_nowhere():
    config = parse("", "a.toml")
    for kind in RULES[:12]:  # the guard, and those on the course of a training
        usual = kind.Params()
        more = {name: value * 1.1 for name in kind.Params.__struct_fields__ if isinstance(value := getattr(usual, name), float)}
        try_parameters(kind, msgspec.structs.replace(usual, **more), config, "a.toml")
