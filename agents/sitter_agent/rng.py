"""The process's random number generators, read and put back. Only those whose library the process already has."""

import random
import sys
from typing import Any


def capture() -> dict[str, Any]:
    """States of Python's, numpy's and torch's global generators, as those give them: 10 µs, since a short loader begins often."""
    states: dict[str, Any] = {"python": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        states["numpy"] = numpy.random.get_state()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():  # asking whether there is a GPU would start its driver, which a forked child could not use then
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def restore(states: dict[str, Any]) -> list[str]:
    """Put back what ``capture`` said. Returns in words what could not be."""
    missing = []
    random.setstate(states["python"])
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        if "numpy" in states:
            numpy.random.set_state(states["numpy"])
        else:
            missing.append("numpy's random numbers (numpy was not imported when the state was taken)")
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        if "cuda" in states:
            if torch.cuda.is_available() and torch.cuda.device_count() >= len(states["cuda"]):
                torch.cuda.set_rng_state_all(states["cuda"])
            else:
                missing.append("CUDA's random numbers (the devices are not those of then)")
    return missing


def to_plain(states: dict[str, Any]) -> dict[str, Any]:
    """States in lists, texts and numbers, for a file that is read without pickle."""
    plain: dict[str, Any] = {}
    if "python" in states:
        version, words, gauss = states["python"]
        plain["python"] = [version, list(words), gauss]
    if "numpy" in states:
        name, keys, at, has_gauss, cached = states["numpy"]
        plain["numpy"] = [name, keys.tolist(), int(at), int(has_gauss), float(cached)]
    if "torch" in states:
        plain["torch"] = bytes(states["torch"].numpy()).hex()
    if "cuda" in states:
        plain["cuda"] = [bytes(s.cpu().numpy()).hex() for s in states["cuda"]]
    return plain


def from_plain(plain: dict[str, Any]) -> dict[str, Any]:
    """What ``to_plain`` said, to be restored here; libraries that this process does not have are left out."""
    version, words, gauss = plain["python"]
    states: dict[str, Any] = {"python": (version, tuple(words), gauss)}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and "numpy" in plain:
        name, keys, at, has_gauss, cached = plain["numpy"]
        states["numpy"] = (name, numpy.array(keys, dtype=numpy.uint32), at, has_gauss, cached)
    if torch is not None and "torch" in plain:
        states["torch"] = _tensor(torch, plain["torch"])
        if "cuda" in plain:
            states["cuda"] = [_tensor(torch, s) for s in plain["cuda"]]
    return states


def generators_of(thing: object) -> list[tuple[str, Any]]:
    """Private generators that a data loader holds, one or two levels down (its sampler, its dataset), each with its path."""
    found: list[tuple[str, Any]] = []
    seen: set[int] = set()

    def look(owner: object, path: str, depth: int) -> None:
        for name, value in sorted(getattr(owner, "__dict__", {}).items()):
            if id(value) in seen:
                continue
            if _is_generator(value):
                seen.add(id(value))
                found.append((f"{path}{name}", value))
            elif depth and name in _INNER:
                seen.add(id(value))
                look(value, f"{path}{name}.", depth - 1)

    look(thing, "", 2)
    return found


_INNER = frozenset({"sampler", "batch_sampler", "dataset"})


def state_of(generator: Any) -> Any:
    """A generator's own state, to be put back with ``set_state``."""
    if isinstance(generator, random.Random):
        return generator.getstate()
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    if hasattr(generator, "seed_seq"):
        return generator.state
    state = generator.get_state()
    return state.clone() if hasattr(state, "clone") else state


def set_state(generator: Any, state: Any) -> None:
    """Put a generator's own state back, in place."""
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    elif hasattr(generator, "seed_seq"):
        generator.state = state
    else:
        generator.set_state(state)


def _is_generator(value: object) -> bool:
    if isinstance(value, random.Random):
        return True
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(value, numpy.random.Generator | numpy.random.RandomState):
        return True
    return torch is not None and hasattr(torch, "Generator") and isinstance(value, torch.Generator)


def _tensor(torch: Any, text: str) -> Any:
    return torch.tensor(list(bytes.fromhex(text)), dtype=torch.uint8, device="cpu")
