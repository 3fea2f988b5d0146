"""Everything that decides what an editor learns in RL, and what a run records of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from typing import Any

from onereward.losses import Reward
from onereward.models.device import Precision
from onereward.rl_terms import RLConfig
from onereward.runtime.checks import require
from onereward.terms import Dimension
from onereward.train.alarms import AlarmConfig


class Release(StrEnum):
    """Which weights `final/` gets: pi_theta or pi_ema, the two outputs of Algorithm 1."""

    POLICY = "policy"
    AVERAGE = "average"


@dataclass(frozen=True, kw_only=True)
class TrainRLConfig(RLConfig, AlarmConfig):
    """All that decides what an editor learns from given triplets and a judge; a recipe states every value."""

    editor: str  # where training starts: `toy`, a folder or a Hub name
    judge: str
    held_out_judge: str | None  # a judge never trained with, which only looks on: what the alarms go by
    triplets: str  # a folder, or what else the draws are made from
    pixels: int | None  # area to which larger triplets are shrunk; None: they stay as they are
    judge_pixels: int  # that the judge sees of an image
    seed: int
    steps: int
    micro_batch: int  # samples that a process has in memory at once; changes sums in their last bits only
    precision: Precision
    lora_rank: int  # of the adapters that alone are trained; 0 trains all weights
    checkpointing: bool  # activations are computed again on the way back: a third slower, a fraction of the memory
    cache_conditions: bool  # what texts and pictures are to the editor is made before and kept on disk, T5 then freed
    reference_pool: int  # references of a triplet, each made once (Algorithm 1 only); 0: a new one every time
    staleness: int  # steps by which the average that remote references are made with is behind (Algorithm 2 only)
    learning_rate: float
    weight_decay: float
    clip: float  # largest norm of the gradient
    release: Release
    threads: int | None  # of torch; None: as the caller has set
    probe_every: int  # steps between looks at held-out triplets: win rates against the frozen start, drift, alarms
    checkpoint_every: int

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = ("steps", "batch", "micro_batch", "reference_steps", "policy_steps", "graded_steps", "judge_pixels")
        require(self, at_least=1, fields=(*counts, "probe_every", "checkpoint_every"))
        amounts = ("anchor", "kl", "flow_matching", "shift", "tone", "learning_rate", "weight_decay", "clip")
        require(self, at_least=0, fields=(*amounts, "lora_rank", "reference_pool", "staleness"))
        require(self, at_least=0, at_most=1, fields=("decay", "reference_cache", "bound"))
        if not all(isinstance(time, int | float) for time in self.jump_range) or not self._rises(*self.jump_range):
            raise ValueError(
                f"got jump_range {self.jump_range}, expected two noise levels from 0 to 1, the lower first"
            )
        for name in ("pixels", "threads"):
            if getattr(self, name) is not None:
                require(self, at_least=1, fields=(name,))
        _require_shares("task_mix", self.task_mix)
        _require_shares("dimension_weights", self.dimension_weights)
        if set(self.dimension_weights) != set(Dimension):
            raise ValueError(f"got dimension_weights for {', '.join(self.dimension_weights)}, expected all dimensions")
        if self.reward is Reward.LOG_ODDS and not 0 < self.bound < 1:
            raise ValueError(f"got bound {self.bound} for log odds, expected a probability between 0 and 1")
        if self.reference_pool and self.dynamic:
            raise ValueError(
                "a pool of references is of the frozen start, and Algorithm 2 has another every step: "
                "set reference_pool=0, or train without --dynamic"
            )
        if self.staleness and not self.dynamic:
            raise ValueError(f"got staleness {self.staleness}, but the reference of Algorithm 1 is frozen: set it to 0")

    @staticmethod
    def _rises(low: float, high: float) -> bool:
        return 0 <= low <= high <= 1

    @property
    def bfloat16(self) -> bool:
        """Whether the editor's products are computed in bfloat16."""
        return self.precision is Precision.BFLOAT16


def _require_shares(name: str, shares: Mapping[Any, float]) -> None:
    values = list(shares.values())
    if not all(isfinite(value) and value >= 0 for value in values) or sum(values) <= 0:
        got = ", ".join(f"{key} {value}" for key, value in shares.items())
        raise ValueError(f"got {name} {got}, expected finite shares of 0 or more, one above 0")


@dataclass(frozen=True, kw_only=True)
class RLRun(TrainRLConfig):
    """A config with what it was run on, by content: what `config.json` records."""

    editor_weights: str
    judge_weights: str
    held_out_weights: str | None
    drawn_from: str
