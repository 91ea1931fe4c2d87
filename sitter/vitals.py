"""What is known of a training that stands: what its process does, and where its stacks say it is. Values, as in ``model``."""

import msgspec


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel says of the training process, over the last ``seconds``. None: it does not say.

    ``state`` is /proc's letter (R, S, D, T, t, Z; X: gone). CPU in cores, of the process with its children, and of its main thread;
    ``io`` in bytes/s through read and write calls, likewise. ``waits_in``: the kernel function its main thread sleeps in;
    ``reads_fd``: the descriptor it is reading from. ``lock_waits``: how often a second the control thread wakes and sleeps again.
    """

    state: str
    seconds: float
    cpu: float | None = None
    main_cpu: float | None = None
    io: float | None = None
    waits_in: str = ""
    reads_fd: int | None = None
    lock_waits: float | None = None
    children: int = 0
    busy_children: int = 0
    dead_children: int = 0


class Stood(msgspec.Struct, frozen=True, kw_only=True):
    """The stacks of a training that stands. ``at``: monotonic seconds; ``session`` and ``step`` then; ``how`` they were taken.

    ``path`` relative to the run directory (empty: nothing could be written), ``where``: the script's innermost line in words, empty
    where no stack could be had. ``innermost``: functions of the main thread, innermost first, as ``file:function``.
    """

    at: float
    session: str
    step: int
    how: str
    path: str = ""
    where: str = ""
    innermost: list[str] = []
    threads: int = 0
