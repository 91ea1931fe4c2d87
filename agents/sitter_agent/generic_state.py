"""The framework-free adapter: the script's own ``save()`` and ``load()``, copied deep; on disk a zip that ``numpy.load``
opens. No pickle."""

import copy
import io
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from sitter_agent.memory import LARGE, pages
from sitter_agent.own_state import Loaded, of_state
from sitter_agent.state import Knob

SAMPLE_DEPTH = 64
TREE = "tree.json"
META = "meta.json"
LOADER = "loader"
"""The one entry of the meta that may hold arrays."""

Save = Callable[[], Any]
Load = Callable[[Any], Any]


class GenericAdapter:
    """State given by ``agent.state(save=…, load=…)``. ``save()`` returns arrays, numbers and texts in dicts, lists and tuples."""

    name = "generic"
    suffix = ".npz"

    def __init__(self) -> None:
        self._save: Save | None = None
        self._load: Load | None = None

    def register(self, save: Save, load: Load) -> None:
        """From now on this is the state."""
        self._save, self._load = save, load

    @property
    def known(self) -> bool:
        """Whether there is any state to be taken."""
        return self._save is not None

    def nbytes(self) -> int:
        """Bytes of the arrays, and a guess for the rest."""
        return sum(getattr(leaf, "nbytes", 64) for _, leaf in leaves(self._now())) if self._save else 0

    def capture(self, into: object | None) -> object:
        """A deep copy of what ``save()`` returns; arrays go into ``into``'s memory where shape and type fit."""
        return _copy(self._now(), into)

    def restore(self, captured: object) -> list[str]:
        """Hand ``load()`` a copy of its own. What it puts back is its own business: nothing is known to be missing."""
        if self._load is None:
            return ["there is no load() to put the state back with"]
        self._load(_copy(captured, None))
        return []

    def finite(self) -> bool:
        """Whether every number in the state is finite."""
        return all(_finite(leaf) for _, leaf in leaves(self._now()))

    def sound(self, captured: object) -> bool:
        """``finite`` of a capture."""
        return all(_finite(leaf) for _, leaf in leaves(captured))

    def park(self) -> tuple[None, str]:
        """Where the script keeps it is not known here."""
        return None, "the state is the script's own, and what of it lies on a GPU is not known here"

    def save(self, captured: object, file: BinaryIO, meta: dict[str, object]) -> None:
        """``tree.json`` says the shape of the state; every array is a member that ``numpy.load(path)["its/path"]`` gives."""
        arrays: dict[str, Any] = {}
        tree = _to_json(captured, "", arrays)
        if LOADER in meta:
            meta = {**meta, LOADER: _to_json(meta[LOADER], LOADER, arrays)}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as z:
            z.writestr(META, json.dumps(meta))
            z.writestr(TREE, json.dumps(tree))
            for name, array in arrays.items():
                with z.open(f"{name}.npy", "w", force_zip64=True) as member:
                    sys.modules["numpy"].lib.format.write_array(member, array, allow_pickle=False)

    def load(self, file: BinaryIO) -> tuple[object, dict[str, object]]:
        """Raises ValueError where the file is not what ``save`` wrote."""
        try:
            with zipfile.ZipFile(file) as z:
                meta = json.loads(z.read(META))
                tree = json.loads(z.read(TREE))
                if isinstance(meta.get(LOADER), dict) and "$dict" in meta[LOADER]:  # as plain JSON it is of an older version
                    meta[LOADER] = _from_json(meta[LOADER], z)
                return _from_json(tree, z), meta
        except Exception as e:  # a damaged zip raises nearly anything: bad flags, methods, offsets
            if isinstance(e, ValueError) and not isinstance(e, json.JSONDecodeError | UnicodeDecodeError):
                raise
            raise ValueError(f"not a whole checkpoint of a framework-free state: {e}") from e

    def knobs(self) -> list[Knob]:
        """None by itself; ``agent.knob`` declares them."""
        return []

    def loaded(self) -> Loaded:
        """By the step that the state names, if it does."""
        return of_state(self._now())

    def steps_done(self) -> int | None:
        """Not known: every turn is a step."""
        return None

    def sample(self, step: int) -> dict[str, float]:
        """Nothing by itself."""
        return {}

    def remarks(self) -> list[str]:
        """Nothing."""
        return []

    def tell_to(self, tell: Callable[[str], object]) -> None:
        """There is nothing that it would say."""

    def rest(self) -> None:
        """Nothing was hooked."""

    def close(self) -> None:
        """Let go of the script's functions, and of what they hold."""
        self._save = self._load = None

    def _now(self) -> Any:
        if self._save is None:
            raise ValueError("no state is known: call agent.state(save=…, load=…) or start(model=…, optimizer=…)")
        return self._save()


def leaves(tree: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every leaf of a state with its path, dicts in their own order. Raises ValueError where it nests without end."""
    if depth > SAMPLE_DEPTH:
        raise ValueError(f"the state nests deeper than {SAMPLE_DEPTH} levels at {path[:60]}: does it hold itself?")
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}" if path else str(key), depth + 1)
    elif isinstance(tree, list | tuple):
        for i, value in enumerate(tree):
            yield from leaves(value, f"{path}/{i}" if path else str(i), depth + 1)
    else:
        yield path, tree


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _is_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def _copy(value: Any, into: Any, depth: int = 0) -> Any:
    if depth > SAMPLE_DEPTH:
        raise ValueError(f"the state nests deeper than {SAMPLE_DEPTH} levels: does it hold itself?")
    if isinstance(value, dict):
        named = into if isinstance(into, dict) else {}
        return {k: _copy(v, named.get(k), depth + 1) for k, v in value.items()}
    if type(value) in (list, tuple):
        old = into if type(into) is type(value) and len(into) == len(value) else [None] * len(value)
        return type(value)(_copy(v, o, depth + 1) for v, o in zip(value, old, strict=True))
    if _is_array(value):
        if value.dtype.hasobject:
            return copy.deepcopy(value)
        if _is_array(into) and into.shape == value.shape and into.dtype == value.dtype and into is not value:
            into[...] = value
            return into
        return _apart(value)
    if value is None or isinstance(value, int | float | complex | str | bytes) or _is_scalar(value):
        return value
    return copy.deepcopy(value)


def _apart(value: Any) -> Any:
    """A copy of an array, on pages of its own where it is large: see ``memory.pages``."""
    if value.nbytes < LARGE:
        return value.copy()
    out = sys.modules["numpy"].frombuffer(pages(value.nbytes), dtype=value.dtype).reshape(value.shape)
    out[...] = value
    return out


def _finite(leaf: Any) -> bool:
    if isinstance(leaf, float):
        return math.isfinite(leaf)
    if (_is_array(leaf) or _is_scalar(leaf)) and leaf.dtype.kind in "fc":
        return bool(sys.modules["numpy"].isfinite(leaf).all())
    return True


def _to_json(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """JSON has fewer types than a state: what it lacks is an object with one ``$`` key."""
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, dict):
        return {"$dict": [[_key(k, path), _to_json(v, _join(path, k), arrays)] for k, v in value.items()]}
    if isinstance(value, list):
        return [_to_json(v, _join(path, i), arrays) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_to_json(v, _join(path, i), arrays) for i, v in enumerate(value)]}
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, complex):
        return {"$complex": [value.real, value.imag]}
    if (_is_array(value) or _is_scalar(value)) and not value.dtype.hasobject:
        name = path or "state"
        while name in arrays or f"{name}.npy" in (META, TREE):
            name += "_"
        arrays[name] = value
        return {"$array": name, "scalar": _is_scalar(value)}
    raise ValueError(
        f"the state at {path or 'its root'} is a {type(value).__name__}, expected an array, a number, text, or dicts and lists "
        "of them; let save() return it in those"
    )


def _key(key: Any, path: str) -> Any:
    if isinstance(key, str) or type(key) in (int, bool) or key is None:
        return key
    raise ValueError(
        f"a key of the state at {path or 'its root'} is a {type(key).__name__}, expected text or a whole number"
    )


def _join(path: str, part: Any) -> str:
    # A zip's names end at a NUL and know no lone surrogates; the tree keeps the keys as they are.
    part = "".join(c if c.isprintable() and c != "\\" else "_" for c in str(part)).strip("/") or "_"
    return f"{path}/{part}" if path else part


def _from_json(value: Any, z: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_from_json(v, z) for v in value]
    if not isinstance(value, dict):
        return value
    if "$dict" in value:
        return {k: _from_json(v, z) for k, v in value["$dict"]}
    if "$tuple" in value:
        return tuple(_from_json(v, z) for v in value["$tuple"])
    if "$float" in value:
        return float(value["$float"])
    if "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    if "$complex" in value:
        return complex(*value["$complex"])
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise ValueError("the state holds arrays and numpy is not imported: import numpy before agent.loop begins")
    # Whole members are read first: what numpy reads from a zip stream is not checked against its CRC until the end.
    array = numpy.lib.format.read_array(io.BytesIO(z.read(f"{value['$array']}.npy")), allow_pickle=False)
    return array[()] if value["scalar"] else array
