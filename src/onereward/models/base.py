"""What the algorithm asks of an editor and of a judge; every model family answers to these two protocols.

Shape legend: B batch, H W pixels, L latent tokens, C token channels, K queries.
Images are float in [-1, 1], masks are 1 where new, t = 1 is noise and t = 0 the image,
velocity = noise - x_0, x_t = (1 - t) x_0 + t noise, so x_0 = x_t - t * velocity.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import Tensor

Condition = Any
"""What `Editor.encode` returns and `Editor.velocity`/`decode` take: opaque to the algorithm, batch first."""


Transformer = Callable[..., Any]
"""The part of an editor that training changes, called with what `Editor.velocity` puts together."""


class Copies(Protocol):
    """The states of an editor's transformer that the algorithms tell apart, as whole models or as adapters on one."""

    @property
    def policy(self) -> Transformer:
        """pi_theta: trained."""
        ...

    @property
    def average(self) -> Transformer:
        """pi_ema: the policy's moving average."""
        ...

    @property
    def start(self) -> Transformer:
        """The policy as it was before training."""
        ...

    def update_average(self, decay: float) -> None:
        """pi_ema <- tau pi_ema + (1 - tau) pi_theta (line 14 of Algorithm 1)."""
        ...


class Editor(Protocol):
    """A mask-guided flow model: pi in the paper."""

    def encode(self, image_B3HW: Tensor, mask_B1HW: Tensor, prompts: Sequence[str]) -> Condition:
        """Everything about (I_src, M, P) that does not depend on the policy; no gradient."""
        ...

    def noise(self, condition: Condition, sample_keys: Sequence[tuple[int | str, ...]]) -> Tensor:
        """Initial latents `noise_BLC`, sample b drawn from `torch_generator(*sample_keys[b])` alone."""
        ...

    def times(self, condition: Condition, steps: int) -> Tensor:
        """The sampler's times, `steps + 1` numbers from 1 down to 0, shifted for this resolution."""
        ...

    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, condition: Condition, *, transformer: Transformer | None = None
    ) -> Tensor:
        """velocity_BLC at time t (one a sample) with `transformer` (default: the editor's own)."""
        ...

    def latents(self, image_B3HW: Tensor) -> Tensor:
        """latents_BLC of images in [-1, 1] (the posterior's mode), without gradient: `decode` undoes it."""
        ...

    def cached(self, threshold: float | None) -> AbstractContextManager[None]:
        """Inside, one rollout's steps skip what follows the first block if that changed by less than this share.

        None or 0: nothing is skipped.
        """
        ...

    def decode(self, latents_BLC: Tensor, condition: Condition) -> Tensor:
        """image_B3HW in [-1, 1] (not clamped); differentiable."""
        ...


class Judge(Protocol):
    """The pairwise reward model: r_phi in the paper."""

    def log_odds(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """log P(yes) - log P(no) per sample and query, `log_odds_BK`; differentiable in the images."""
        ...

    def prob_yes(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """P("yes": the first image is better), `prob_BK`; differentiable in the images."""
        ...

    def prob_yes_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """The mean of P(yes | first, second) and P(no | second, first), `prob_BK`: free of a preference for a place."""
        ...
