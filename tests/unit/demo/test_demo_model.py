"""The demo's model: its gradients are right, it learns, and its whole state can be put back."""

import copy
import math

import numpy as np
import pytest

from sitter_demo.model import Adam, Batch, ByteModel, Shape, Windows
from sitter_demo.text import TextError, stdlib_text

SMALL = Shape(context=4, embedding=3, hidden=8)


def in_double(model: ByteModel) -> ByteModel:
    """The same model in float64, so that a difference quotient means something."""
    model.flat, model.grad = model.flat.astype(np.float64), model.grad.astype(np.float64)
    at = 0
    for name, p in model.parameters.items():
        model.parameters[name] = model.flat[at : at + p.size].reshape(p.shape)
        model.gradients[name] = model.grad[at : at + p.size].reshape(p.shape)
        at += p.size
    return model


@pytest.mark.parametrize("name", ["embedding", "w1", "b1", "w2", "b2", "w3", "b3"])
def test_gradients_agree_with_the_difference_quotient(name):
    rng = np.random.default_rng(3)
    model = in_double(ByteModel(1, SMALL))
    model.flat += rng.normal(0, 0.1, model.flat.shape)
    batch = Batch(rng.integers(0, 5, (16, 4)).astype(np.uint8), rng.integers(0, 5, 16).astype(np.uint8), gain=0.7)
    _, norm = model.loss_and_grad(batch)
    gradient = model.gradients[name].copy()
    assert norm == pytest.approx(np.linalg.norm(model.grad))
    flat = model.parameters[name].reshape(-1)
    checked = 0
    for i in rng.permutation(flat.size)[:60]:
        if name == "embedding" and i // 3 >= 5:
            assert gradient.reshape(-1)[i] == 0  # a byte that was not there
            continue
        before = flat[i]
        flat[i] = before + 1e-5
        up = model.loss(batch)
        flat[i] = before - 1e-5
        down = model.loss(batch)
        flat[i] = before
        assert gradient.reshape(-1)[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-9)
        checked += 1
    assert checked >= min(flat.size, 1)


def test_repeated_bytes_add_up_in_the_embedding():
    model = ByteModel(0, SMALL)
    batch = Batch(np.full((8, 4), 7, np.uint8), np.arange(8, dtype=np.uint8))
    model.loss_and_grad(batch)
    assert np.count_nonzero(model.gradients["embedding"].any(axis=1)) == 1


def test_it_starts_near_uniform_and_learns_real_text():
    text = stdlib_text()
    model = ByteModel(0)
    optimizer = Adam(model, rate=3e-3, total=150, warmup=20)
    data = Windows(text.train, context=16, size=256, seed=0)
    held_out = Windows(text.val, context=16, size=2048, seed=1).draw()
    first = model.loss(held_out)
    for _ in range(150):
        model.loss_and_grad(data.draw())
        optimizer.step()
    assert first == pytest.approx(math.log(256), abs=0.1)
    assert model.loss(held_out) < 2.7
    assert model.flat.dtype == optimizer.mean.dtype == np.float32


def test_a_not_finite_batch_poisons_everything():
    model = ByteModel(0, SMALL)
    optimizer = Adam(model, rate=1e-3, total=10, warmup=1)
    loss, norm = model.loss_and_grad(Batch(np.ones((4, 4), np.uint8), np.ones(4, np.uint8), gain=math.nan))
    optimizer.step()
    assert math.isnan(loss)
    assert math.isnan(norm)
    assert np.isnan(model.parameters["w1"]).all()


def test_adam_is_adam():
    model = ByteModel(0, SMALL)
    optimizer = Adam(model, rate=0.01, total=100, warmup=1)
    rng = np.random.default_rng(0)
    expected = model.flat.astype(np.float64)
    m = v = np.zeros_like(expected)
    for t in range(1, 6):
        model.grad[...] = rng.normal(0, 1, model.grad.shape)
        rate = optimizer.effective_rate
        optimizer.step()
        g = model.grad.astype(np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.98 * v + 0.02 * g * g
        expected -= rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.98**t)) + 1e-8)
    np.testing.assert_allclose(model.flat, expected, rtol=1e-4, atol=1e-6)


def test_the_schedule_warms_up_and_comes_down_to_a_tenth():
    optimizer = Adam(ByteModel(0, SMALL), rate=2.0, total=1000, warmup=100)
    factors = [optimizer.schedule(s) for s in range(1200)]
    assert factors[0] == pytest.approx(0.01)
    assert max(factors) == pytest.approx(1)
    assert factors.index(max(factors)) in (99, 100)
    assert factors[1000] == factors[-1] == pytest.approx(0.1)


def test_windows_go_on_from_a_saved_place():
    text = np.arange(5000, dtype=np.uint16).astype(np.uint8)
    data = Windows(text, context=4, size=8, seed=5)
    data.draw()
    saved = copy.deepcopy(data.state_dict())
    expected = [data.draw() for _ in range(3)]
    data.load_state_dict(saved)
    for batch in expected:
        again = data.draw()
        np.testing.assert_array_equal(batch.context, again.context)
        np.testing.assert_array_equal(batch.target, again.target)


def test_the_target_is_the_byte_that_follows():
    data = Windows(np.arange(256, dtype=np.uint8), context=4, size=8, seed=0)
    batch = data.draw()
    np.testing.assert_array_equal(batch.target, batch.context[:, -1] + 1)


def test_the_text_is_the_same_on_every_call_and_split_by_whole_files():
    one, two = stdlib_text(), stdlib_text()
    np.testing.assert_array_equal(one.train, two.train)
    np.testing.assert_array_equal(one.val, two.val)
    assert len(one.train) > 5 * len(one.val) > 100_000
    assert one.val[:400].tobytes() not in one.train.tobytes()


def test_without_sources_it_says_what_to_do(tmp_path):
    with pytest.raises(TextError, match=r"expected the standard library in .*found 0 bytes: use a Python"):
        stdlib_text(folder=tmp_path)
