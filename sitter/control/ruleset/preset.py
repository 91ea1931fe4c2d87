"""Which preset a run begins with: what `sitter run --mode` or $SITTER_MODE said, else sitter.toml, else ``guard``."""

import os
from typing import get_args

from sitter.config import Config
from sitter.errors import ConfigError
from sitter.model import Preset
from sitter_wire.rundir import RunInfo


def preset_of(info: RunInfo, config: Config) -> Preset:
    """Raises ConfigError where $SITTER_MODE names none."""
    known: tuple[Preset, ...] = get_args(Preset)
    for value, where in ((info.mode, "run.toml"), (os.environ.get("SITTER_MODE", ""), "SITTER_MODE")):
        if not value:
            continue
        for preset in known:
            if value == preset:
                return preset
        raise ConfigError(f"{where} says mode {value!r}, expected one of {', '.join(known)}")
    return config.mode
