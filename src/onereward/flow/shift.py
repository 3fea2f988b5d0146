"""How FLUX's sampler depends on the image's size (torch-free, since a contract states it)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How FLUX spends more steps on noise in larger images: mu is linear in the number of image tokens."""

    base_tokens: int = 256
    max_tokens: int = 4096
    base_mu: float = 0.5
    max_mu: float = 1.15

    def mu(self, image_tokens: int) -> float:
        slope = (self.max_mu - self.base_mu) / (self.max_tokens - self.base_tokens)
        return image_tokens * slope + (self.base_mu - slope * self.base_tokens)
