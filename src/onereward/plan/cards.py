"""GPUs as their makers describe them, what is kept free of their memory, and how much of their speed is reached."""

import re
from dataclasses import dataclass, fields

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Card:
    """`memory` in bytes; products a second in bfloat16 and float32 (dense, no TF32); bytes a second; 0: not known."""

    name: str
    memory: int
    bfloat16: float = 0.0
    float32: float = 0.0
    bandwidth: float = 0.0
    is_gpu: bool = True

    @property
    def is_timed(self) -> bool:
        """Whether its speed is known."""
        return self.bfloat16 > 0


CARDS = {
    "h100": Card(name="H100 SXM", memory=80 * _GIB, bfloat16=989e12, float32=67e12, bandwidth=3.35e12),
    "h200": Card(name="H200", memory=141 * _GIB, bfloat16=989e12, float32=67e12, bandwidth=4.8e12),
    "a100": Card(name="A100 SXM 80GB", memory=80 * _GIB, bfloat16=312e12, float32=19.5e12, bandwidth=2.04e12),
    "a100-40gb": Card(name="A100 SXM 40GB", memory=40 * _GIB, bfloat16=312e12, float32=19.5e12, bandwidth=1.56e12),
    "l40s": Card(name="L40S", memory=48 * _GIB, bfloat16=362e12, float32=91.6e12, bandwidth=0.864e12),
    "4090": Card(name="RTX 4090", memory=24 * _GIB, bfloat16=165e12, float32=82.6e12, bandwidth=1.008e12),
}
"""From the makers' data sheets."""

_OF_SIZE = {24: "4090", 40: "a100-40gb", 48: "l40s", 80: "h100", 141: "h200"}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*g(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AchievedShares:
    """The share of a card's peak that each phase of a step reaches (`optimizer`: of its bandwidth).

    Measured by `python -m benchmarks.rl_size` for adapters on FLUX.1-Fill with the 7B judge, one 1024x1024 sample at a
    time, not compiled (docs/soak/rl_size_h100.jsonl). Smaller pictures reach less, since starting kernels then takes
    longer than they run: half of it at 512x512.
    """

    reference_rollout: float = 0.33
    policy_rollout: float = 0.26
    regulariser: float = 0.26
    graded_step: float = 0.26
    decode: float = 0.115
    judge: float = 0.04
    backward: float = 0.16
    optimizer: float = 0.6
    source: str = "measured on an H100 at 1024x1024; about half of it at 512x512, and assumed of other cards"

    def of(self, phase: str) -> float:
        """The share of the phase of that name in a run's log."""
        share: float = getattr(self, phase.replace(" ", "_"))
        return share


SHARES = AchievedShares()
TIMED_PHASES = tuple(field.name.replace("_", " ") for field in fields(AchievedShares) if field.name != "source")


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """Memory that holds no tensor: a fixed part for libraries, a share of the card for gaps between tensors."""

    fixed: int
    share: float
    why: str

    def of(self, memory: int) -> int:
        """Bytes of it on a card with that much."""
        return self.fixed + round(self.share * memory)


GPU_RESERVE = Reserve(fixed=2 * _GIB, share=0.05, why="CUDA, cuBLAS and cuDNN 2 GiB; gaps between tensors 5 %")
CPU_RESERVE = Reserve(fixed=_GIB // 2, share=0.0, why="Python and the libraries")


def reserve_of(card: Card) -> Reserve:
    """What is kept free of the card's memory."""
    return GPU_RESERVE if card.is_gpu else CPU_RESERVE


def card_of(text: str) -> tuple[Card, str]:
    """The card that `--gpu` names (`h100`, `80GB`, `cpu`), and what was assumed; ValueError for an unknown one.

    A memory's GB count as 2**30 bytes, as the makers of cards count them.
    """
    name = text.strip().lower()
    if name in CARDS:
        return CARDS[name], ""
    if name == "cpu":
        import psutil

        return Card(
            name="this machine's CPU", memory=psutil.virtual_memory().total, is_gpu=False
        ), "no speed is assumed of a CPU"
    size = _SIZE.fullmatch(name)
    if not size or not float(size[1]):
        raise ValueError(f"got --gpu {text!r}, expected a memory such as 80GB, cpu, or one of {', '.join(CARDS)}")
    gigabytes = float(size[1])
    known = _OF_SIZE.get(round(gigabytes))
    if known is None or round(gigabytes) != gigabytes:
        card = Card(name=f"a card of {gigabytes:g} GB", memory=round(gigabytes * _GIB))
        return card, f"no card of {gigabytes:g} GB is known, so no speed is assumed"
    return CARDS[known], f"{text} is taken for an {CARDS[known].name}: name another card with --gpu for its speed"
