"""The language of ``when``: what it says, what it refuses, and that nothing else gets through."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitter.model import GpuNow, HostNow
from sitter.rules.own.expression import Expression, ExpressionError, check_names
from sitter.rules.view import RunView

NAN = math.nan


def told(text: str, points: list[dict[str, float]], **facts: object) -> object:
    """The expression's value after these points, a step each."""
    expression, view = Expression(text), RunView()
    for name, value in facts.items():
        setattr(view, name, value)
    memory = expression.fresh()
    for step, values in enumerate(points):
        view.step = step
        expression.take(memory, values, step, view)
    return expression.value(memory, view)


def losses(*values: float) -> list[dict[str, float]]:
    return [{"loss": v} for v in values]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("loss", 4.0),
        ("2 * loss + 1 - 3 / 2", 7.5),
        ("loss ** 2 % 7", 2.0),
        ("-loss", -4.0),
        ("1 < loss <= 4", True),
        ("1 < loss < 4", False),
        ("loss > 3 and loss < 5", True),
        ("loss > 5 or not loss > 5", True),
        ("mean(loss, 2)", 3.5),
        ("median(loss, 3) > 1.3 * best(loss)", True),
        ("median(log(loss), 3)", math.log(3.0)),
        ("max(mean(loss, 2), 2)", 3.5),
        ("slope(loss, 4)", 1.0),
        ("loss == first(loss)", False),
        ("ago(loss, 1)", 3.0),
        ("abs(0 - loss)", 4.0),
        ("log(0 - loss)", None),
        ("loss / 0", None),
        ("exp(loss * 1000)", None),
        ("finite(loss)", True),
        ("step", 3.0),
        ("train_loss", 4.0),
        ('signal("train/loss")', 4.0),
        ("age(loss)", 0.0),
        ("points(loss)", 4.0),
    ],
)
def test_what_it_says(text: str, value: object) -> None:
    assert told(text, losses(1.0, 2.0, 3.0, 4.0)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("val_loss > 3", None),
        ("mean(loss, 50) > 3", None),
        ("val_loss > 3 and loss > 100", False),
        ("val_loss > 3 and loss > 1", None),
        ("val_loss > 3 or loss > 1", True),
        ("val_loss > 3 or loss > 100", None),
        ("not val_loss > 3", None),
        ("1 < val_loss < 3", None),
        ("gpu.temp > 80", None),
        ("host.disk_free < 1e9", None),
        ("progress > 0.5", None),
    ],
)
def test_what_is_unknown_stays_unknown(text: str, value: object) -> None:
    assert told(text, losses(1.0, 4.0)) is value


def test_nan_compares_false_and_stays_out_of_windows() -> None:
    points = losses(1.0, NAN, 3.0, NAN)
    assert told("loss > 0", points) is False
    assert told("mean(loss, 2)", points) == 2.0
    assert told("not finite(loss)", points) is True


def test_a_signal_keeps_its_last_value_and_its_age() -> None:
    points = [{"loss": 1.0, "val_loss": 2.0}, *losses(1.5, 1.6, 1.7)]
    assert told("val_loss / loss", points) == pytest.approx(2.0 / 1.7)
    assert told("age(val_loss)", points) == 3.0


def test_facts_are_the_runs() -> None:
    others = GpuNow(index=0, uuid="a", name="x", temp=50.0, used_by_run=False)
    gpus = [others, GpuNow(index=1, uuid="b", name="x", temp=90.0, used_by_run=True)]
    facts = {"gpus": gpus, "host": HostNow(disk_free=5), "total": 8, "steps_per_s": 2.5}
    assert told("gpu.temp", losses(1.0), **facts) == 90.0
    assert told("gpu0.temp", losses(1.0), **facts) == 50.0
    assert told("gpu7.temp", losses(1.0), **facts) is None
    assert told("host.disk_free", losses(1.0), **facts) == 5.0
    assert told("progress", losses(1.0, 1.0, 1.0), **facts) == 0.25
    assert told("rate * 2", losses(1.0), **facts) == 5.0


def test_a_window_over_facts_gets_a_point_a_second() -> None:
    expression, view = Expression("mean(gpu.util, 3)"), RunView()
    memory = expression.fresh()
    for util in (10.0, 20.0, 30.0, 40.0):
        view.gpus = [GpuNow(index=0, uuid="a", name="x", util=util)]
        expression.second(memory, view)
    assert expression.value(memory, view) == 30.0


def test_the_best_of_the_goal_is_the_highest_where_higher_is_better() -> None:
    points = [{"val_acc": v, "loss": v} for v in (0.1, 0.9, 0.5)]
    assert told("best(val_acc)", points, goal="val_acc", better="higher") == 0.9
    assert told("best(loss)", points, goal="val_acc", better="higher") == 0.1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("medain(loss, 50) > 1", "no function 'medain' (column 1); did you mean median?"),
        ("median(loss) > 1", "expected median(loss, 50), found median(loss)"),
        ("median(loss, n) > 1", "expected a number of points from 1 to 100,000, found n"),
        ("median(loss, 0) > 1", "expected a number of points"),
        ("median(loss, 1.5) > 1", "expected a number of points"),
        ("best(loss, 5)", "expected best(loss)"),
        ("best > 3", "best at column 1 is a function: expected best(loss)"),
        ("loss > > 3", "is no expression at column 8"),
        ("loss >", "is no expression"),
        ("loss > 'high'", "'high' at column 8: expected a number"),
        ("loss if step else 1", "is not allowed here"),
        ("[l for l in loss]", "is not allowed here"),
        ("lambda: 1", "is not allowed here"),
        ("loss.mean > 1", "no 'loss.mean' (column 1)"),
        ("gpu0.tmp > 80", "did you mean gpu0.temp?"),
        ("loss > 1 & step > 1", "is not known here; expected `and`"),
        ("loss << 1", "expected + - * / % or **"),
        ("loss > 1 && step > 1", "`&&` is written `and` here"),
        ("loss = 1", "`=` is written `==` here"),
        ("loss => 1", "`=>` is written `>=` here"),
        ("loss ≥ 1", "`≥` is written `>=` here"),
        ("avg(loss, 5) > 1", "did you mean mean?"),
        ("isnan(loss)", "did you mean not finite(loss)?"),
        ("loss[-1] > 1", "its value 5 points ago is ago(loss, 5)"),
        ("train/loss > 3", 'is a division; a signal of that name is written signal("train/loss")'),
        ("~loss", "expected `not`"),
        ("loss in (1, 2)", "expected < <= > >= == or !="),
        ("__import__('os').system('true')", "no function"),
        ("().__class__", "no '().__class__'"),
        ("signal(loss)", 'expected signal("train/loss")'),
        ("age(loss + lr)", "expected age(loss)"),
        ("mean(loss, n=5)", "expected mean(loss, 50)"),
        ("(" * 300 + "1" + ")" * 300, "no expression"),
        ("+".join(["1"] * 60), "levels of brackets"),
        ("1" * 3000, "characters"),
        ("1" * 1999, "digits is too large"),
        (" and ".join(f"mean(loss, {n}) > 1" for n in range(1, 60)), "at most 50 functions"),
        ("", "is no expression"),
    ],
)
def test_what_it_refuses_and_how(text: str, says: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(text)
    assert says in str(refused.value)


def test_a_slip_in_a_signals_name_is_said_and_a_signal_of_ones_own_is_none() -> None:
    with pytest.raises(ExpressionError, match="did you mean loss"):
        check_names(Expression("lss > 3"))
    with pytest.raises(ExpressionError, match="did you mean train_loss"):
        check_names(Expression("trainloss > 3"))
    with pytest.raises(ExpressionError, match="did you mean reward_mean"):
        check_names(Expression("rewad_mean > 3"), {"reward_mean"})
    check_names(Expression('perplexity > 3 and signal("lss") > 1'))
    check_names(Expression("train / 2 > 1 and loss / val > 1"))
    check_names(Expression("loss_g > 3 and loss2 > 1 and grad_norm_max > 1"))


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_text_does_anything_but_be_an_expression_or_be_refused(text: str) -> None:
    try:
        expression = Expression(text)
    except ExpressionError:
        return
    assert isinstance(expression.value(expression.fresh(), RunView()), float | bool | int | None)


def test_evidence_names_every_value_in_it() -> None:
    expression, view = Expression("median(loss, 2) > 1.3 * best(loss) and val_loss > 1"), RunView(step=1)
    memory = expression.fresh()
    for step, value in enumerate((1.0, 3.0)):
        expression.take(memory, {"loss": value}, step, view)
    assert expression.evidence(memory, view) == {"loss": 3.0, "median(loss, 2)": 2.0, "best(loss)": 1.0, "val_loss": None}
