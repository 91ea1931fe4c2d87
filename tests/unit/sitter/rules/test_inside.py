"""Layers: in which order, and whether what was learned of them survives; and the rules on models that are really trained."""

import math
import random

import pytest

from sitter.rules.base import gave_up, recovered, wants
from sitter.rules.cases.inside import LAYERS, inside, vanished
from sitter.rules.catalogue import RULES
from sitter.rules.dead_parameters import DeadParameters
from sitter.rules.engine import Engine
from sitter.rules.exploding_gradients import ExplodingGradients
from sitter.rules.layers import slope, towers
from sitter.rules.loss_scale_collapse import LossScaleCollapse
from sitter.rules.poor_initialisation import PoorInitialisation
from sitter.rules.stuck_at_start import StuckAtStart
from sitter.rules.update_ratio import UpdateRatio
from sitter.rules.vanishing_gradients import VanishingGradients
from sitter.rules.view import RunView, Sample
from sitter_wire.commands import SetKnob


def told(rule, story, view=None):
    view = view or RunView(scales={"lr": 1.0})
    found = [rule.observe(sample, view) for sample in story()]
    return [f for f in found if f is not None]


@pytest.mark.parametrize(("rule", "names", "wanted"), [
    (VanishingGradients(), ("grad_norm.head",), True),
    (VanishingGradients(), ("loss", "grad_norm.blocks.0", "lr"), True),
    (VanishingGradients(), ("loss", "grad_norm", "grad_norm/D"), False),
    (VanishingGradients(), ("update_ratio.head",), False),
    (StuckAtStart(), ("loss",), True),
    (StuckAtStart(), ("loss.a",), False),
])  # fmt: skip
def test_a_rule_wants_all_signals_that_begin_as_it_says(rule, names, wanted):
    assert wants(rule, names) is wanted


def test_points_without_such_signals_cost_the_rules_about_layers_nothing():
    rule, asked = VanishingGradients(), []
    rule.observe = lambda sample, view: asked.append(sample.step)
    engine = Engine([rule], RunView())
    for step in range(200):
        engine.observe(Sample(step, 0, float(step), {"loss": 2.0, "grad_norm": 1.0} | ({"grad_norm.head": 1.0} if step % 100 == 7 else {})))
    assert asked == [7, 107]
    engine.warm([rule], [Sample(step, 0, float(step), {"loss": 2.0} | ({"grad_norm.head": 1.0} if step == 3 else {})) for step in range(9)])
    assert asked == [7, 107, 3]


def test_the_next_daemon_is_told_the_layers_order():
    """It looks back at points that begin anywhere: of layers that take turns, any may be the first that it sees."""
    first = VanishingGradients()
    told(first, inside(vanished))
    assert first.order == list(LAYERS)
    second = VanishingGradients()
    second.know(first.knowledge())
    (found,) = told(second, lambda: (sample for sample in inside(vanished, by_turns=3)() if sample.step >= 100))
    assert "from head to" in found.text
    assert second.order == list(LAYERS)


def test_who_logs_a_layer_at_every_step_is_judged_by_a_few_of_them():
    def dense(until):
        return lambda: (Sample(step, 0, float(step), {f"grad_norm.{name}": vanished(i, step) for i, name in enumerate(LAYERS)})
                        for step in range(until))  # fmt: skip

    assert told(VanishingGradients(), dense(200)) == []
    assert len(told(VanishingGradients(), dense(400))) == 1


def test_a_layer_that_is_looked_at_no_more_keeps_no_other_from_being_said():
    def gone(i, step):
        return (0.0 if step < 200 else None) if i == 1 else 0.0 if i == 7 and step > 1000 else 1e-3

    (found,) = told(DeadParameters(), inside(lambda i, step: 0.1, gone))
    assert found.text.startswith("head has not changed since step 1,100")


def test_a_schedule_that_ends_at_nothing_is_known_to_the_next_daemon():
    first = UpdateRatio()
    told(first, inside(None, lambda i, step: 1e-3, until=1000))
    ended = inside(None, lambda i, step: 1e-9)
    assert "far too low" in told(UpdateRatio(), ended)[0].text
    second = UpdateRatio()
    second.know(first.knowledge())
    assert told(second, ended) == []


def test_a_lower_rate_is_proposed_only_where_it_can_be_set_and_at_present():
    high = inside(None, lambda i, step: 0.2)
    (found,) = told(UpdateRatio(), high)
    assert found.actions == [SetKnob(knob="lr", op="scale", amount=0.3)]
    assert (found.severity, UpdateRatio.default_mode) == ("warning", "ask")
    assert [f.actions for f in told(UpdateRatio(), high, RunView())] == [[]]
    assert [f.actions for f in told(UpdateRatio(), high, RunView(scales={"lr": 1.0}, late=True))] == [[]]


def test_the_loss_is_looked_at_only_where_the_number_of_classes_is_told():
    assert not wants(PoorInitialisation(), ("loss",))
    assert wants(PoorInitialisation(PoorInitialisation.Params(classes=10)), ("loss",))


def test_two_models_are_two_towers():
    assert towers(["embed", "blocks.0", "head"]) == [["embed", "blocks.0", "head"]]
    assert towers(["G.0", "G.1", "D.0"]) == [["G.0", "G.1"], ["D.0"]]


def test_a_slope_is_that_from_layer_to_layer():
    found = slope({str(i): i * math.log(2.0) for i in range(12)})
    assert math.exp(found.each) == pytest.approx(2.0)
    assert math.exp(found.gain) == pytest.approx(2.0**8)
    assert found.steady == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(10))
def test_chance_alone_explodes_no_layer(seed):
    rng = random.Random(seed)
    noise = {name: rng.uniform(0.1, 0.8) for name in LAYERS}
    points = [
        Sample(100 * i, 0, float(i), {f"grad_norm.{name}": math.exp(rng.gauss(0.0, noise[name]) + rng.gauss(0.0, 0.5)) for name in LAYERS})
        for i in range(1, 400)
    ]
    assert told(ExplodingGradients(), lambda: points) == []


def test_a_layer_that_swings_by_nature_is_not_said_to_explode_where_it_is_high_for_a_while():
    swings = [2.9 * (7 * i % 19 - 9) / 9 for i in range(20)] + [2.9] * 4  # log scale: over all of 18 × up and down
    points = [
        Sample(100 * i, 0, float(i), {f"grad_norm.{name}": math.exp(swing if name == "blocks.2" else 0.0) for name in LAYERS})
        for i, swing in enumerate(swings, start=1)
    ]
    assert told(ExplodingGradients(), lambda: points) == []


@pytest.mark.parametrize(("rule", "norm"), [
    (VanishingGradients, lambda i, step: 10.0 ** (-300 + 80 * i)), (ExplodingGradients, lambda i, step: 10.0 ** (290 - 80 * i)),
    (ExplodingGradients, lambda i, step: 1e300 if i == 3 and step > 2000 else 1e-100),
])  # fmt: skip
def test_gradients_further_apart_than_a_number_can_say_switch_no_rule_off(rule, norm):
    found, *_ = told(rule(), inside(norm))
    assert found.evidence["factor"] > 1e200


def test_a_layer_that_stays_where_it_rose_to_is_not_said_to_be_back():
    """It is its own usual level by then, and has not recovered."""
    rose, stayed = told(ExplodingGradients(), inside(lambda i, step: 0.1 * (50.0 if i == 3 and step > 2000 else 1.0), until=8000))
    assert "rose to" in rose.text
    assert (stayed.key, gave_up(stayed), recovered(stayed)) == (rose.key, True, False)
    assert "has stayed at" in stayed.text


def looked_at(activation, monkeypatch):
    """A network of 12 layers, by the agent's own sampler with a look every 10th step, which the rules are told as the 100th."""
    import torch
    from torch import nn

    from sitter_agent.frameworks import torch_layer_meter
    from sitter_agent.frameworks.torch import TorchAdapter

    monkeypatch.setattr(torch_layer_meter, "EVERY", 10)
    monkeypatch.setattr(torch_layer_meter, "COST_SHARE", 1e9)
    torch.manual_seed(0)
    model = nn.Sequential(*(part for _ in range(12) for part in (nn.Linear(16, 16), activation())))
    for layer in model[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    adapter = TorchAdapter(model=model, optimizer=optimizer)
    for turn in range(1, 141):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(32, 16)), torch.arange(32) % 16).backward()
        optimizer.step()
        lot = adapter.sample(turn).get("grad_norm.*")
        for values in lot.values([vector.tolist() for vector in lot.vectors]) if lot is not None else []:
            yield Sample(turn if turn <= 64 else 10 * turn, 0, float(turn), values)
    adapter.close()


@pytest.mark.slow
def test_what_the_agent_sees_in_a_model_is_what_the_rules_look_for(monkeypatch):
    from torch import nn

    def found(activation):
        engine = Engine([kind() for kind in RULES], RunView(in_session=True, state="running"))
        findings = [f for sample in looked_at(activation, monkeypatch) for f in engine.observe(sample)]
        assert not engine.broken
        return {f.rule for f in findings}

    assert found(nn.Sigmoid) == {"poor_initialisation", "vanishing_gradients"}
    assert found(nn.LeakyReLU) == set()


@pytest.mark.slow
def test_the_scaler_of_torch_on_a_healthy_run_and_on_one_that_overflows():
    import torch

    def scale_of(overflows, steps):
        scaler = torch.amp.GradScaler("cpu", growth_interval=50)
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], 0.0)
        for step in range(steps):
            yield Sample(step, 0, float(step), {"loss_scale": scaler.get_scale()})
            scaler.scale(weight.sum()).backward()
            if overflows(step, scaler.get_scale()):
                weight.grad.fill_(math.inf)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    assert told(LossScaleCollapse(), lambda: scale_of(lambda step, scale: scale > 512.0, 400)) == []
    found = told(LossScaleCollapse(), lambda: scale_of(lambda step, scale: scale > 512.0 or 200 <= step < 230, 400))
    assert [f.severity for f in found] == ["warning", "info"]
    assert "halvings" in found[0].text
    assert "rises again" in found[1].text


def test_a_loss_scale_is_back_at_4_times_its_lowest_and_a_few_halvings_after_that_are_no_new_collapse():
    scales = [2.0**15] * 30 + [2.0 ** (14 - i) for i in range(8)] + [2.0**8, 2.0**9, 2.0**8, 2.0**7, 2.0**6]
    points = [Sample(step, 0, float(step), {"loss_scale": scale}) for step, scale in enumerate(scales)]
    first, last = told(LossScaleCollapse(), lambda: points)
    assert "fell to 128, by 8 halvings" in first.text
    assert "rises again: 128 → 512" in last.text


def test_a_layer_that_stands_still_is_said_together_with_one_of_which_it_is_not_sure_yet():
    (found,) = told(DeadParameters(), inside(None, lambda i, step: 0.0 if i == 2 or (i == 5 and step > 150) else 1e-3))
    assert "blocks.1 and blocks.4 have not changed" in found.text
