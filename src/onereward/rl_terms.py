"""What Algorithms 1 and 2 are told, take in and give out; the algorithms themselves are in `rl.py`.

Shape legend: B samples, H W pixels, K dimensions, L latent tokens, C token channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from onereward.losses import Reward
from onereward.models.base import Condition
from onereward.terms import Dimension, Task

Key = tuple[int | str, ...]
"""What a draw is made from."""


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """What Algorithms 1 and 2 need to know; the paper gives few of the values, a recipe states them all."""

    dynamic: bool  # Algorithm 2: the average is the reference
    task_mix: Mapping[Task, float]  # p_k
    batch: int  # samples an iteration, over all processes
    reference_steps: int
    reference_cache: float  # change of the first block below which a reference's step skips the others; 0: none does
    policy_steps: int
    graded_steps: int  # of one rollout, each by itself; the paper has one
    jump_range: tuple[float, float]  # [t1, t2], as noise levels
    bound: float  # lambda of Eq. 5
    decay: float  # tau
    reward: Reward  # what the bound is held against; the paper: the probability
    dimension_weights: Mapping[Dimension, float]  # of the hinges in the mean over E_k; the paper has none: 1 each
    anchor: float  # weight of |x0_hat - the frozen start's x0_hat| in latents; the paper has none: 0
    kl: float  # weight of KL(N(x0_hat, 1) || N(the start's, 1)) a number of the latents; the paper has none: 0
    flow_matching: float  # weight of the flow matching loss on the reference's images; the paper has none: 0
    paste_back: bool  # the judge sees what a user gets: outside the mask the source; the paper does not say: False
    shift: int  # pixels by which the judge's two images are moved about; the paper has none: 0
    tone: float  # by which each one's gain and offset vary; the paper has none: 0
    both_orders: bool  # reward averaged over both orders of the two images; the paper shows the policy's first: False

    @property
    def is_regularised(self) -> bool:
        """Whether a step pays for anything but the reward."""
        return bool(self.anchor or self.kl or self.flow_matching)

    @property
    def needs_start(self) -> bool:
        """Whether the frozen start is asked at every step."""
        return not self.dynamic or bool(self.anchor or self.kl)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one task; `keys[b]` is (seed, step, slot in the global batch), from which its draws are made.

    `reference_keys` are those of the reference's noise. `abreast` are the keys of all that other processes grade at the
    same time: with a policy split over them all go as many steps. A batch of `weight` 0 only keeps step with others.
    """

    task: Task
    prompts: Sequence[str]
    keys: Sequence[Key]
    reference_keys: Sequence[Key]
    abreast: Sequence[Key]
    image_B3HW: Tensor
    mask_B1HW: Tensor
    condition: Condition
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Graded:
    """One batch's share of the loss, and P(yes) of each sample in its dimensions E_k (NaN beyond a sample's last)."""

    loss: Tensor
    batch: Batch
    dimensions: Sequence[tuple[Dimension, ...]]
    prob_yes_BK: Tensor
    hinge_BK: Tensor
    x0_hat_BLC: Tensor

    def without_graph(self) -> "Graded":
        """What is left when the gradient has been taken."""
        names = ("loss", "prob_yes_BK", "hinge_BK", "x0_hat_BLC")
        return replace(self, **{name: getattr(self, name).detach() for name in names})
