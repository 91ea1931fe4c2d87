"""Every rule there is. A new rule is one file and one line here."""

from sitter.rules.base import Rule
from sitter.rules.checkpoint_cadence import CheckpointCadence
from sitter.rules.cpu_bound import CpuBound
from sitter.rules.data_bound import DataBound
from sitter.rules.dead_parameters import DeadParameters
from sitter.rules.deadline import Deadline
from sitter.rules.disk_full import DiskFull
from sitter.rules.divergence import Divergence
from sitter.rules.early_stop import EarlyStop
from sitter.rules.entropy_collapse import EntropyCollapse
from sitter.rules.exploding_gradients import ExplodingGradients
from sitter.rules.goal_best import GoalBest
from sitter.rules.gpu_fluctuating import GpuFluctuating
from sitter.rules.gpu_hot import GpuHot
from sitter.rules.gpu_idle import GpuIdle
from sitter.rules.gpu_lost import GpuLost
from sitter.rules.gpu_memory import GpuMemory
from sitter.rules.guard import Guard
from sitter.rules.kl_runaway import KlRunaway
from sitter.rules.loss_scale_collapse import LossScaleCollapse
from sitter.rules.memory_creep import MemoryCreep
from sitter.rules.no_learning_signal import NoLearningSignal
from sitter.rules.oscillation import Oscillation
from sitter.rules.overfit import Overfit
from sitter.rules.overhead import Overhead
from sitter.rules.plateau import Plateau
from sitter.rules.poor_initialisation import PoorInitialisation
from sitter.rules.reward_collapse import RewardCollapse
from sitter.rules.slow_steps import SlowSteps
from sitter.rules.spike import Spike
from sitter.rules.stalled import Stalled
from sitter.rules.stuck_at_start import StuckAtStart
from sitter.rules.throttled import Throttled
from sitter.rules.throughput import Throughput
from sitter.rules.too_slow import TooSlow
from sitter.rules.update_ratio import UpdateRatio
from sitter.rules.vanishing_gradients import VanishingGradients
from sitter.rules.warmup_missing import WarmupMissing

RULES: tuple[type[Rule], ...] = (
    Guard,
    Spike,
    Divergence,
    Overfit,
    Plateau,
    EarlyStop,
    GoalBest,
    Oscillation,
    TooSlow,
    StuckAtStart,
    WarmupMissing,
    RewardCollapse,
    EntropyCollapse,
    KlRunaway,
    NoLearningSignal,
    PoorInitialisation,
    VanishingGradients,
    ExplodingGradients,
    UpdateRatio,
    DeadParameters,
    LossScaleCollapse,
    Stalled,
    CheckpointCadence,
    DataBound,
    CpuBound,
    SlowSteps,
    Throughput,
    Overhead,
    Deadline,
    GpuLost,
    GpuIdle,
    GpuFluctuating,
    Throttled,
    GpuHot,
    GpuMemory,
    DiskFull,
    MemoryCreep,
)
"""In the order in which they are shown and run."""
