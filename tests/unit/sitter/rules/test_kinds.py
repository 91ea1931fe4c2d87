"""Whoever logs a reward, or the loss of a discriminator, need not say what kind of training it is."""

import pytest

from sitter.control.present import Present, Session
from sitter.control.sight import tell
from sitter.rules.engine import Engine
from sitter.rules.guard import Guard
from sitter.rules.kinds import kind_by
from sitter.rules.view import RunView, Sample
from sitter_wire.events import SessionStart


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("loss", "val_loss", "lr", "grad_norm"), "supervised"),
        (("loss", "rollout/ep_rew_mean"), "rl"),
        (("loss", "entropy", "approx_kl"), "rl"),
        (("loss", "entropy"), "supervised"),
        (("loss", "kl"), "supervised"),
        (("loss", "rewards/margins", "rewards/chosen"), "supervised"),
        (("g_loss", "d_loss"), "gan"),
        (("loss", "train/disc_loss"), "gan"),
        (("loss_D", "loss_G"), "gan"),
        (("g_loss", "d2_loss"), "gan"),
        (("loss_3d", "bbox_2d_loss"), "supervised"),
        (("loss", "distill_loss", "decoder_loss", "weighted_loss"), "supervised"),
        (("d_model", "loss"), "supervised"),
    ],
)
def test_the_names_say_what_kind_it_is(names: tuple[str, ...], kind: str) -> None:
    assert kind_by(names) == kind


def test_a_rising_loss_beside_a_reward_trips_nothing_and_the_header_says_why() -> None:
    view = RunView(in_session=True, state="running", scales={"lr": 1.0})
    engine = Engine([Guard()], view)
    found = []
    for step in range(200):
        loss = 1.0 + (step % 7) / 100 if step < 100 else 5.0
        found += engine.observe(Sample(step=step, branch=0, time=float(step), values={"loss": loss, "reward": 0.1}))
    assert not [f for f in found if f.actions]
    assert view.kind == "rl"
    assert engine.blind() == 'by what is logged this is kind="rl": only nan and inf act'


@pytest.mark.parametrize("kind", ["gan", "supervised"])
def test_what_the_script_said_is_believed_before_the_names(kind: str) -> None:
    present, view = Present(), RunView(in_session=True, state="running")
    present.session = Session(id="a", pid=1, start=SessionStart(pid=1, host="h", branch=0, kind=kind))
    tell(view, present)
    Engine([Guard()], view).observe(Sample(step=1, branch=0, time=1.0, values={"loss": 1.0, "reward": 0.1}))
    assert view.kind == kind
    assert not view.kind_by_names


def test_what_the_script_does_not_say_stays_what_the_names_said() -> None:
    present, view = Present(), RunView(in_session=True, state="running")
    present.session = Session(id="a", pid=1, start=SessionStart(pid=1, host="h", branch=0))
    Engine([Guard()], view).observe(Sample(step=1, branch=0, time=1.0, values={"loss": 1.0, "reward": 0.1}))
    tell(view, present)
    assert (view.kind, view.kind_by_names) == ("rl", True)
