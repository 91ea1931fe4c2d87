"""Every fault, in the order of ``sitter drill list``. A new one is one file and one line here."""

from sitter.drill.base import Fault
from sitter.drill.corrupt_checkpoint import CorruptCheckpoint
from sitter.drill.disk_full import DiskFull
from sitter.drill.gil_hang import GilHang
from sitter.drill.grad_explosion import GradExplosion
from sitter.drill.hang import Hang
from sitter.drill.kill_daemon import KillDaemon
from sitter.drill.kill_trainer import KillTrainer
from sitter.drill.lr_bug import LrBug
from sitter.drill.nan import Nan
from sitter.drill.preempt import Preempt
from sitter.drill.spike import Spike
from sitter.drill.stop_daemon import StopDaemon

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        Nan,
        Spike,
        LrBug,
        GradExplosion,
        Hang,
        GilHang,
        KillTrainer,
        KillDaemon,
        StopDaemon,
        DiskFull,
        CorruptCheckpoint,
        Preempt,
    )
}
