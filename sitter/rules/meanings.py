"""What the parameters of a rule mean: the docstrings that stand under them."""

import ast
import inspect
import textwrap
from itertools import pairwise

from sitter.rules.base import RuleParams
from sitter.rules.catalogue import RULES


def meanings(rule: str) -> dict[str, str]:
    """Of a rule of the catalogue: parameter to what is said of it, on one line. Empty for other rules, and where there is no source."""
    kind = next((kind for kind in RULES if kind.name == rule), None)
    return {} if kind is None else _of(kind.Params)


def _of(params: type[RuleParams]) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in params.__mro__[::-1]:
        if not (issubclass(base, RuleParams) and base is not RuleParams):
            continue
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):
            continue
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, under in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = under.value if isinstance(under, ast.Expr) else None
                if isinstance(said, ast.Constant) and isinstance(said.value, str):
                    found[field.target.id] = " ".join(said.value.replace("``", "`").split())
    return found
