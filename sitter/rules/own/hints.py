"""What somebody probably meant: the words of other languages, and slips of the keyboard."""

import ast
import difflib
import re
from collections.abc import Iterable, Sequence

MEANT = {
    "avg": "mean", "average": "mean", "rolling_mean": "mean", "moving_average": "mean", "ma": "mean", "sma": "mean", "ewm": "ema",
    "ewma": "ema", "stddev": "std", "sd": "std", "stdev": "std", "minimum": "min", "lowest": "min", "maximum": "max", "highest": "max",
    "count": "points", "len": "points", "prev": "ago", "previous": "ago", "last": "ago", "lag": "ago", "shift": "ago", "trend": "slope",
    "zscore": "z", "z_score": "z", "ln": "log", "isfinite": "finite", "is_finite": "finite", "isnan": "not finite(loss)",
    "is_nan": "not finite(loss)", "isinf": "not finite(loss)", "nan": "not finite(loss)",
}  # fmt: skip
"""Functions as others call them, and as they are called here."""

_SIGNS = {
    "=>": ">=", "=<": "<=", "<>": "!=", "&&": "and", "||": "or", "!": "not",
    "\u2265": ">=", "\u2264": "<=", "\u2260": "!=", "\u00d7": "*", "\u2212": "-", "\u00f7": "/",
}  # fmt: skip
_SINGLE = re.compile(r"(?<![<>=!])=(?!=)")
_BITS: dict[type[ast.operator], str] = {ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "**", ast.MatMult: "*", ast.FloorDiv: "/"}
_HALVES = ("train", "val", "eval", "valid", "validation", "test", "rollout", "metrics", "losses")
"""Before a slash in names of signals; by themselves they are hardly one."""


def near(name: str, known: Iterable[str]) -> str:
    """``did you mean loss?``; empty where nothing is like it."""
    names = list(known)
    close = [MEANT[name]] if name in MEANT else difflib.get_close_matches(name, names, 1, 0.6)
    return f"did you mean {close[0]}?" if close else ""


def slip(name: str, usual: Sequence[str]) -> str:
    """The usual name that this one nearly is; empty: it may well be another. ``loss_g`` and ``loss2`` are signals beside ``loss``."""
    close = difflib.get_close_matches(name, usual, 1, 0.75)
    return close[0] if close and not re.match(rf"{re.escape(close[0])}[_\d]", name) else ""


def sign(text: str) -> str:
    """Of a text that is no expression: which sign is written in another way here; empty: none was found."""
    text = text.replace("!=", "")
    for theirs, ours in _SIGNS.items():
        if theirs in text:
            return f"`{theirs}` is written `{ours}` here"
    return "`=` is written `==` here" if _SINGLE.search(text) else ""


def operator(kind: type[ast.operator]) -> str:
    """As ``sign``, of an operator that Python has and we have not."""
    return f"; expected `{_BITS[kind]}`" if kind in _BITS else ""


def division(node: ast.BinOp) -> str:
    """``train/loss`` that was meant as a name; empty: a division."""
    left, right = node.left, node.right
    if isinstance(node.op, ast.Div) and isinstance(left, ast.Name) and left.id in _HALVES and isinstance(right, ast.Name):
        return f"{left.id}/{right.id}"
    return ""


def instead(node: ast.expr) -> str:
    """What there is in place of something that is not allowed."""
    if isinstance(node, ast.Subscript):
        return "; its value 5 points ago is ago(loss, 5)"
    return "; `a and b`, `a or b` join conditions" if isinstance(node, ast.IfExp) else ""


def is_condition(node: ast.expr) -> bool:
    """Whether it is true or false, and not a number that everything but 0 would make true."""
    if isinstance(node, ast.BoolOp):
        return all(is_condition(value) for value in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return is_condition(node.operand)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "finite")
