"""The language of ``when``: ``median(loss, 50) > 1.3 * best(loss) and step > 2000``.

Python's own grammar through ``ast``, of which a short whitelist is let through; nothing is ever handed to ``eval``. Names are signals
as they are logged (``loss``, ``val_loss``, ``grad_norm``…), facts of the run and the machine (``facts.py``), and with
``signal("train/loss")`` whatever is no Python name. Functions over a signal's past are in ``series.py``.

Three truths: what is not known yet (a window that is not full, a signal that was not logged) makes a comparison unknown, and an
unknown condition leads to nothing. NaN compares false, as everywhere.
"""

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

from sitter.rules.own.facts import BY_STEP, Fact, fact
from sitter.rules.own.facts import names as fact_names
from sitter.rules.own.hints import division, instead, is_condition, near, sign, slip
from sitter.rules.own.hints import operator as operator_meant
from sitter.rules.own.series import MOST_POINTS, SERIES, Series
from sitter.rules.view import RunView
from sitter_wire.aliases import ALIASES

Value = float | bool | None
MOST_TEXT, MOST_DEPTH, MOST_SERIES = 2000, 40, 50
LOGGED = ("loss", "val_loss", "grad_norm", "lr", "lr_scheduled", "step_time", "data_wait")
"""Signals that the agent itself logs or renames, for hints."""


class ExpressionError(ValueError):
    """What is wrong in an expression: found, expected, where, and the nearest right name. ``key``: in which setting, where that is not the
    condition itself."""

    def __init__(self, said: str, key: str = "") -> None:
        super().__init__(said)
        self.key = key


@dataclass(slots=True)
class Memory:
    """What an expression remembers of the signals; copied with the rule's."""

    series: list[Series] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    """The last value of each signal that it names."""
    seen: dict[str, int] = field(default_factory=dict)
    """And the step at which it was logged."""


@dataclass(slots=True)
class _Env:
    memory: Memory
    view: RunView


Node = Callable[[_Env], Value]


@dataclass(frozen=True, slots=True)
class _Fed:
    """A series and what it is fed with, whenever one of these signals comes (none: every second, since it is made of facts)."""

    kind: type[Series]
    n: int
    of: Node
    signals: frozenset[str]
    goal: str


class Expression:
    """Compiled from its text: raises ExpressionError. Stateless; what it remembers is a ``Memory``."""

    def __init__(self, text: str) -> None:
        self.text = " ".join(text.split())
        compiler = _Compiler()
        self._root = compiler.compile(text)
        self.signals = frozenset(compiler.signals)
        """Names of the signals in it. Empty: of facts alone."""
        self.quoted = frozenset(compiler.quoted)
        """Those that were named by ``signal("…")``, which may be called whatever they like."""
        self.by_step = not compiler.signals and bool(compiler.facts) and compiler.facts <= BY_STEP
        """Made of facts alone that change with the steps: it is judged at every point, whatever was logged."""
        self.is_condition = compiler.is_condition
        """Whether it is true or false, rather than a number."""
        self._fed = compiler.fed
        self._shown = compiler.shown
        self.shown = tuple(compiler.shown)
        """Every signal, fact and series in it, as ``evidence`` names them."""

    def fresh(self) -> Memory:
        """A memory that has seen nothing. The goal's direction is that of the first view it is used with."""
        return Memory(series=[])

    def take(self, memory: Memory, values: dict[str, float], step: int, view: RunView) -> None:
        """Values that were logged together. O(1) for each series that one of them belongs to."""
        mine = self.signals & values.keys()
        if not mine:
            return
        for name in mine:
            memory.values[name] = values[name]
            memory.seen[name] = step
        self._feed(memory, lambda fed: not fed.signals.isdisjoint(mine), step, view)

    def second(self, memory: Memory, view: RunView) -> None:
        """A second passed: what is made of facts alone gets a point."""
        self._feed(memory, lambda fed: not fed.signals, view.step or 0, view)

    def value(self, memory: Memory, view: RunView) -> Value:
        """What it is now; None: unknown."""
        self._begin(memory, view)
        return self._root(_Env(memory, view))

    def evidence(self, memory: Memory, view: RunView) -> dict[str, float | int | str | None]:
        """Every signal, fact and series in it, with its present value."""
        self._begin(memory, view)
        env = _Env(memory, view)
        return {text: None if (v := node(env)) is None else float(v) for text, node in self._shown.items()}

    def _begin(self, memory: Memory, view: RunView) -> None:
        if len(memory.series) != len(self._fed):
            memory.series = [
                fed.kind(fed.n, higher=bool(fed.goal) and fed.goal == view.goal and view.better == "higher") for fed in self._fed
            ]

    def _feed(self, memory: Memory, wanted: Callable[[_Fed], bool], step: int, view: RunView) -> None:
        self._begin(memory, view)
        env = _Env(memory, view)
        for fed, series in zip(self._fed, memory.series, strict=True):  # inner ones stand before those that ask them
            if wanted(fed):
                value = fed.of(env)
                if value is not None and math.isfinite(value):
                    series.push(float(value), step)


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Mod: operator.mod,
    ast.Pow: math.pow,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[float], float | bool]] = {
    "abs": abs, "log": math.log, "log10": math.log10, "exp": math.exp, "sqrt": math.sqrt, "finite": math.isfinite,
}  # fmt: skip
_OWN = ("signal", "age")
OTHERS = {
    "age(val_loss)": "Steps since it was logged last.",
    "finite(loss)": "Whether its last value is a number at all.",
    'signal("a/b")': "A signal whose name is no plain word.",
    "abs log log10 exp sqrt": "Of one value; what has no answer is unknown.",
    "+ - * / % **": "Arithmetic; < <= > >= == != compare; and, or, not join.",
}
"""What there is beside the series, for people."""
FUNCTIONS = (*_FUNCTIONS, *SERIES, *_OWN)
"""Every function there is."""


class _Compiler(ast.NodeVisitor):
    """One expression to closures."""

    def __init__(self) -> None:
        self.signals: set[str] = set()
        self.quoted: set[str] = set()
        self.facts: set[str] = set()
        self.fed: list[_Fed] = []
        self.shown: dict[str, Node] = {}
        self.is_condition = False
        self._depth = 0

    def compile(self, text: str) -> Node:
        """The whole. Raises ExpressionError."""
        if len(text) > MOST_TEXT:
            raise ExpressionError(f"an expression of {len(text):,} characters, expected at most {MOST_TEXT:,}")
        try:
            tree = ast.parse(text.strip().replace("\r", " ").replace("\n", " "), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
            at = f" at column {e.offset}" if isinstance(e, SyntaxError) and e.offset else ""
            raise ExpressionError(f"{text.strip()!r} is no expression{at}: {sign(text) or getattr(e, 'msg', e)}") from None
        self.is_condition = is_condition(tree.body)
        return self._node(tree.body)

    def _node(self, node: ast.expr) -> Node:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise ExpressionError(f"expected at most {MOST_DEPTH} levels of brackets, found more")
        made = _NODES.get(type(node))
        if made is None:
            raise ExpressionError(
                f"{ast.unparse(node)!r} at column {node.col_offset + 1} is not allowed here: expected numbers, signals, + - * / **, "
                f"comparisons, and, or, not, and the functions {', '.join(FUNCTIONS)}{instead(node)}"
            )
        out: Node = made(self, node)
        self._depth -= 1
        return out

    # -- leaves ------------------------------------------------------------------------------------------------------------

    def _constant(self, node: ast.Constant) -> Node:
        value = node.value
        if not isinstance(value, bool | int | float):
            raise ExpressionError(f"{value!r} at column {node.col_offset + 1}: expected a number")
        try:
            number = float(value)
        except OverflowError:
            raise ExpressionError(f"a number of {len(str(value)):,} digits is too large") from None
        return lambda env: number

    def _name(self, node: ast.Name) -> Node:
        return self._signal_or_fact(node.id, node)

    def _attribute(self, node: ast.Attribute) -> Node:
        name = ast.unparse(node)
        if fact(name) is None:
            meant = near(name, fact_names()) or f"facts are {', '.join(fact_names())}"
            raise ExpressionError(f'no {name!r} (column {node.col_offset + 1}); {meant} (a signal of that name: signal("{name}"))')
        return self._signal_or_fact(name, node)

    def _signal_or_fact(self, name: str, node: ast.expr) -> Node:
        if name in FUNCTIONS:
            raise ExpressionError(f"{name} at column {node.col_offset + 1} is a function: expected {_usage(name)}")
        known = fact(name)
        if known is not None:
            self.facts.add(name)
            return self._show(name, _of_fact(known))
        return self._signal(name)

    def _signal(self, name: str) -> Node:
        name = ALIASES.get(name, name)
        self.signals.add(name)
        return self._show(name, lambda env: env.memory.values.get(name))

    def _show(self, text: str, node: Node) -> Node:
        self.shown.setdefault(text, node)
        return node

    # -- calls -------------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Node:
        name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
        at = f"column {node.col_offset + 1}"
        if name not in FUNCTIONS:
            raise ExpressionError(f"no function {name!r} ({at}); {near(name, FUNCTIONS) or 'functions are ' + ', '.join(FUNCTIONS)}")
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise ExpressionError(f"{name} at {at}: expected {_usage(name)}, found {ast.unparse(node)}")
        if name in _OWN:
            return self._own(name, node)
        if name in SERIES:
            return self._series(SERIES[name], node)
        if len(node.args) != 1:
            raise ExpressionError(f"{name} at {at}: expected {_usage(name)}, found {ast.unparse(node)}")
        return _applied(_FUNCTIONS[name], self._node(node.args[0]))

    def _own(self, name: str, node: ast.Call) -> Node:
        if name == "signal":
            if len(node.args) != 1 or not isinstance(node.args[0], ast.Constant) or not isinstance(node.args[0].value, str):
                raise ExpressionError(f"expected {_usage('signal')}, found {ast.unparse(node)}")
            self.quoted.add(ALIASES.get(node.args[0].value, node.args[0].value))
            return self._signal(node.args[0].value)
        before = set(self.signals)
        if len(node.args) == 1:
            self.signals.clear()
            self._node(node.args[0])
        named, self.signals = self.signals, before | self.signals
        if len(node.args) != 1 or len(named) != 1:
            raise ExpressionError(f"expected {_usage('age')}, found {ast.unparse(node)}")
        (signal,) = named
        return self._show(ast.unparse(node), lambda env: _age(env, signal))

    def _series(self, kind: type[Series], node: ast.Call) -> Node:
        at, arguments = f"{kind.name} at column {node.col_offset + 1}", node.args
        if len(arguments) != 1 + kind.window:
            raise ExpressionError(f"{at}: expected {_usage(kind.name)}, found {ast.unparse(node)}")
        n = _points(arguments[1], at) if kind.window else 0
        before = set(self.signals)
        self.signals.clear()
        of = self._node(arguments[0])
        mine, self.signals = frozenset(self.signals), before | self.signals
        if len(self.fed) >= MOST_SERIES:
            raise ExpressionError(f"expected at most {MOST_SERIES} functions of the past, found more")
        goal = next(iter(mine)) if len(mine) == 1 and _is_signal(arguments[0]) else ""
        self.fed.append(_Fed(kind, n, of, mine, goal))
        place = len(self.fed) - 1
        return self._show(ast.unparse(node), lambda env: env.memory.series[place].value())

    # -- operators ---------------------------------------------------------------------------------------------------------

    def _binary(self, node: ast.BinOp) -> Node:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None:
            meant = operator_meant(type(node.op)) or "; expected + - * / % or **"
            raise ExpressionError(f"{ast.unparse(node)!r} at column {node.col_offset + 1} is not known here{meant}")
        if name := division(node):
            at = f"column {node.col_offset + 1}"
            raise ExpressionError(f'{name} at {at} is a division; a signal of that name is written signal("{name}")')
        left, right = self._node(node.left), self._node(node.right)

        def value(env: _Env) -> Value:
            a, b = left(env), right(env)
            return None if a is None or b is None else _safe(apply, a, b)

        return value

    def _unary(self, node: ast.UnaryOp) -> Node:
        of = self._node(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda env: None if (v := of(env)) is None else not v
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        if isinstance(node.op, ast.Invert):
            raise ExpressionError(f"{ast.unparse(node)!r} at column {node.col_offset + 1}: expected `not`")
        return lambda env: None if (v := of(env)) is None else sign * v

    def _compare(self, node: ast.Compare) -> Node:
        tests = []
        for op in node.ops:
            if type(op) not in _COMPARE:
                raise ExpressionError(f"{ast.unparse(node)!r} at column {node.col_offset + 1}: expected < <= > >= == or !=")
            tests.append(_COMPARE[type(op)])
        parts = [self._node(part) for part in (node.left, *node.comparators)]

        def value(env: _Env) -> Value:
            values = [part(env) for part in parts]
            pairs = zip(values, values[1:], tests, strict=False)
            return _all([None if a is None or b is None else test(a, b) for a, b, test in pairs])

        return value

    def _boolean(self, node: ast.BoolOp) -> Node:
        parts = [self._node(part) for part in node.values]
        if isinstance(node.op, ast.And):
            return lambda env: _all([part(env) for part in parts])
        return lambda env: None if (v := _all([None if (p := part(env)) is None else not p for part in parts])) is None else not v


_NODES: dict[type[ast.expr], Callable[..., Node]] = {
    ast.Constant: _Compiler._constant, ast.Name: _Compiler._name, ast.Attribute: _Compiler._attribute, ast.Call: _Compiler._call,
    ast.BinOp: _Compiler._binary, ast.UnaryOp: _Compiler._unary, ast.Compare: _Compiler._compare, ast.BoolOp: _Compiler._boolean,
}  # fmt: skip


def check_names(expression: Expression, known: "set[str] | frozenset[str]" = frozenset()) -> None:
    """Raises ExpressionError for a name that is nearly a usual signal's, a fact's, or one in ``known``: a slip, not another signal."""
    usual = [*LOGGED, *ALIASES, *fact_names(), *known]
    for name in sorted(expression.signals - expression.quoted - set(usual)):
        if meant := slip(name, usual):
            raise ExpressionError(f'no signal {name!r}; did you mean {meant}? (one that is really called so: signal("{name}"))')


def _all(values: list[Value]) -> bool | None:
    if any(v is not None and not v for v in values):
        return False
    return None if any(v is None for v in values) else True


def _safe(apply: Callable[[float, float], float], a: float, b: float) -> float | None:
    try:
        return apply(a, b)
    except (ArithmeticError, ValueError):
        return None


def _applied(function: Callable[[float], float | bool], of: Node) -> Node:
    def value(env: _Env) -> Value:
        v = of(env)
        try:
            return None if v is None else function(v)
        except (ArithmeticError, ValueError):
            return None

    return value


def _of_fact(read: Fact) -> Node:
    return lambda env: read(env.view)


def _age(env: _Env, signal: str) -> float | None:
    seen = env.memory.seen.get(signal)
    return None if seen is None or env.view.step is None else float(env.view.step - seen)


def _is_signal(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "signal")


def _points(node: ast.expr, at: str) -> int:
    n = node.value if isinstance(node, ast.Constant) else None
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MOST_POINTS:
        raise ExpressionError(f"{at}: expected a number of points from 1 to {MOST_POINTS:,}, found {ast.unparse(node)}")
    return n


def _usage(name: str) -> str:
    if name == "signal":
        return 'signal("train/loss")'
    return f"{name}(loss, 50)" if name in SERIES and SERIES[name].window else f"{name}(loss)"
