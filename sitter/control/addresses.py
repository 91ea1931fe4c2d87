"""Where a run's sockets are, for whoever binds them."""

import logging

from sitter.locks import holder
from sitter_wire import rundir
from sitter_wire.places import Endpoints, RunDir

log = logging.getLogger(__name__)


def socket_places(run: RunDir, info: rundir.RunInfo) -> Endpoints:
    """The run's sockets: where run.toml says, if that is this directory's and can still be used; otherwise made anew and written there.
    Raises PlaceError."""
    places = Endpoints.recorded(run.path, info.sockets, used=holder(run.agent_lock) is not None)
    try:
        places.create()
    except OSError:
        log.warning("the recorded socket directory %s cannot be used: another is made", info.sockets)
        places = Endpoints.of_run(run.path)
        places.create()
    if info.sockets != str(places.directory):
        rundir.write(run, rundir.with_sockets(info, str(places.directory)))
    return places
