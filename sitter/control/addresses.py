"""Where a run's sockets are, for whoever binds them."""

import logging
from pathlib import Path

from sitter_wire import rundir
from sitter_wire.places import Endpoints, RunDir

log = logging.getLogger(__name__)


def socket_places(run: RunDir, info: rundir.RunInfo) -> Endpoints:
    """The run's sockets: where run.toml says, if that can still be used; otherwise made anew and written there. Raises PlaceError."""
    if info.sockets:
        try:
            places = Endpoints(Path(info.sockets))
            places.create()
            return places
        except OSError:
            log.warning("the recorded socket directory %s cannot be used: another is made", info.sockets)
    places = Endpoints.of_run(run.path)
    places.create()
    rundir.write(run, rundir.with_sockets(info, str(places.directory)))
    return places
