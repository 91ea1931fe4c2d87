"""What the rule on lost GPUs is told: stories in which it speaks, and in which it does not."""

from collections.abc import Iterator, Sequence

from sitter.model import CheckpointInfo, GpuNow, Xid
from sitter.rules.base import Case, Tick


def _told(
    note: str = "", ecc: int | None = 0, *, ours: bool | None = True, temp: float | None = 60.0, xids: Sequence[int] = ()
) -> list[GpuNow]:
    reported = [Xid(code=code, time=1.0 + i) for i, code in enumerate(xids)]
    return [GpuNow(index=0, uuid="GPU-0", name="H100", temp=temp, note=note, ecc_errors=ecc, used_by_run=ours, xids=reported)]


def _gone(ours: bool | None = True) -> list[GpuNow]:
    return _told("lost: GPU is lost", None, ours=ours, temp=None)


def _story(*stages: list[GpuNow]) -> Iterator[Tick]:
    saved = CheckpointInfo(branch=0, step=12_000, path="/c", bytes=1, good=True, verified=True)
    for i, gpus in enumerate(stages):
        for t in range(60):
            yield Tick(float(60 * i + t), {"gpus": gpus, "step": 12_100 + 60 * i + t, "checkpoints": [saved]})


FIRES: tuple[Case, ...] = (
    Case("it fell off the bus", lambda: _story(_told(), _gone()), says="(newest checkpoint: step 12,000)", acts=True),
    Case("and no process is known any more",
         lambda: _story(_told(), _gone(None)), says="is gone under the run", acts=True),
    Case("an error in its memory",
         lambda: _story(_told(ecc=3), _told(ecc=4)), says="an uncorrectable memory error since step 12,159", acts=True),
    Case("and it comes back", lambda: _story(_told(), _gone(), _told()), says="answers again"),
    Case("the driver says that it fell off the bus",
         lambda: _story(_told(), _told(xids=[79])), says="has fallen off the bus (Xid 79): end the run and start the host", acts=True),
    Case("a double-bit error",
         lambda: _story(_told(), _told(xids=[48])), says="may be wrong: end the run and reset the GPU", acts=True),
    Case("contained in one program", lambda: _story(_told(), _told(xids=[94])), says="contained in one program (Xid 94)", acts=True),
    Case("a row that could not be replaced", lambda: _story(_told(), _told(xids=[64])), says="could not replace a bad memory row"),
    Case("a link", lambda: _story(_told(), _told(xids=[74])), says="nvidia-smi nvlink -e", acts=True),
    Case("the program's own fault",
         lambda: _story(_told(), _told(xids=[31])), says="the GPU is well, and mostly the program", acts=False),
    Case("a row is set aside", lambda: _story(_told(), _told(xids=[63])), says="nothing at once", acts=False),
    Case("one that is not listed", lambda: _story(_told(), _told(xids=[4711])), says="(Xid 4711): see docs.nvidia.com", acts=False),
)  # fmt: skip
QUIET: tuple[Case, ...] = (
    Case("well", lambda: _story(_told())),
    Case("errors from before", lambda: _story(_told(ecc=7))),
    Case("the driver was loaded anew", lambda: _story(_told(ecc=7), _told(ecc=0))),
    Case("somebody else's GPU", lambda: _story(_told(ours=False), _gone(False))),
    Case("somebody else's memory", lambda: _story(_told(ours=False), _told(ecc=9, ours=False))),
    Case("the driver does not say", lambda: _story(_told(ecc=None), _told("no permission for memory errors", None))),
    Case("the driver hangs for a while",
         lambda: _story(_told(), _told("the NVIDIA driver has not answered x for 11 s", None), _told())),
    Case("an Xid from before", lambda: _story(_told(xids=[79]), _told(xids=[79]))),
    Case("somebody else's Xid", lambda: _story(_told(ours=False), _told(ours=False, xids=[79]))),
    Case("no GPU at all", lambda: _story([])),
)  # fmt: skip
