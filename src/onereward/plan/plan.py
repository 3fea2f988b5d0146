"""Memory and seconds of one step of RL before it is launched, with the arithmetic."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from onereward.plan.cards import SHARES, TIMED_PHASES, AchievedShares, Card, reserve_of
from onereward.plan.rehearsal import (
    BACKWARD,
    GRADIENTS,
    MOMENTS,
    OPTIMIZER,
    REFERENCE,
    REFERENCE_DECODED,
    ROLLOUT,
    Rehearsal,
    Setup,
    held_bytes,
    rehearse,
)
from onereward.plan.shapes import ModelShapes
from onereward.rl_terms import RLConfig

logger = logging.getLogger(__name__)

LORA_RANK = 32
OPTIMIZER_BYTES = 40
"""Read and written a trained weight: by AdamW 28 (weight, gradient, two moments), by the average 12."""
_SMALL = 0.002
_NAMES = {BACKWARD: "gradients of activations", OPTIMIZER: "AdamW's working copies"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """`count` things of `bytes_each` in one process's memory."""

    what: str
    count: int
    bytes_each: float

    @property
    def total(self) -> int:
        """Bytes of them all."""
        return round(self.count * self.bytes_each)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is done `times` in a step, with as many floating point operations each."""

    times: float
    flops: float


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """A phase of a step in one process: its peak of bytes, what it does, and seconds (None: the speed is not known)."""

    name: str
    peak: int
    parts: tuple[Part, ...]
    seconds: float | None

    @property
    def flops(self) -> float:
        """Floating point operations."""
        return sum(part.times * part.flops for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Change:
    """Of a run's setup: as it is typed, and the fields that it sets."""

    typed: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Settings that would make it fit, and the peak with them; none if no setting that is tried would."""

    settings: tuple[str, ...]
    peak: int
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one step takes of one process; `lines` add up to `peak`, which with `reserve` must fit in `memory`."""

    card: Card
    world: int
    side: int
    lines: tuple[Line, ...]
    peak_phase: str
    reserve: int
    reserve_for: str
    phases: tuple[PhaseCost, ...]
    shares: AchievedShares
    advice: Advice | None
    notes: tuple[str, ...]

    @property
    def peak(self) -> int:
        """The most bytes of live tensors at any moment of a step."""
        return sum(line.total for line in self.lines)

    @property
    def fits(self) -> bool:
        return self.peak + self.reserve <= self.card.memory

    @property
    def seconds(self) -> float | None:
        """Of a step, without the time in which processes exchange weights and gradients."""
        known = [phase.seconds for phase in self.phases if phase.seconds is not None]
        return sum(known) if len(known) == len(self.phases) else None


def plan(config: RLConfig, setup: Setup, models: ModelShapes, card: Card, notes: Sequence[str] = ()) -> Plan:
    """What a step of that run takes on such cards, found by a rehearsal on shapes; where it does not fit, what would.

    At the size of FLUX a rehearsal takes about half a minute, and to find what would fit takes several.
    """
    setup = replace(setup, on_gpu=card.is_gpu)
    found = _plan_of(config, setup, rehearse(config, setup, models), card, notes)
    if found.fits:
        return found
    trial = _Trial(config=config, setup=setup, models=models, card=card, peak=found.peak)
    return replace(found, advice=advise(_changes(setup), trial))


def _plan_of(config: RLConfig, setup: Setup, played: Rehearsal, card: Card, notes: Sequence[str] = ()) -> Plan:
    reserve = reserve_of(card)
    peak_phase = max(played.taken, key=lambda name: played.taken[name].peak + _gathered(setup, played, name))
    return Plan(
        card=card,
        world=setup.world,
        side=played.side,
        lines=tuple(_lines(played, setup, peak_phase)),
        peak_phase=peak_phase,
        reserve=reserve.of(card.memory),
        reserve_for=reserve.why,
        phases=tuple(_phase(name, config, setup, played, card) for name in TIMED_PHASES),
        shares=SHARES,
        advice=None,
        notes=(*notes, *_notes(setup)),
    )


def _lines(played: Rehearsal, setup: Setup, peak_phase: str) -> Iterator[Line]:
    """What lives at the peak: weights first, then what they are trained with, then activations by size."""
    taken = played.taken[peak_phase]
    numbers = {label: kept.numbers for label, kept in played.kept.items()}
    numbers |= {MOMENTS: 2 * played.trained, GRADIENTS: played.trained}
    others = sorted(set(taken.by_label) - set(numbers), key=lambda label: -taken.by_label[label])
    rest = taken.peak
    for label in [*numbers, *others]:
        total = taken.by_label[label]
        if total >= _SMALL * taken.peak:
            count = numbers.get(label) or played.blocks.get(label) or 1
            yield Line(what=_NAMES.get(label, label), count=count, bytes_each=total / count)
            rest -= total
    yield Line(what="all else", count=1, bytes_each=rest)
    if _gathered(setup, played, peak_phase):
        yield Line(what="largest block, gathered", count=_gathered_blocks(setup), bytes_each=played.largest_block)


def _gathered(setup: Setup, played: Rehearsal, phase: str) -> int:
    """Bytes of what a process puts together from the others' parts while models are called."""
    return _gathered_blocks(setup) * played.largest_block if setup.sharded and phase != OPTIMIZER else 0


def _gathered_blocks(setup: Setup) -> int:
    """A block and the next; where blocks are trained its gradient too, and that in float32 to be added up."""
    if setup.lora_rank:
        return 2
    return 2 + 1 + (2 if setup.gathers_bfloat16 else 1)


def _phase(name: str, config: RLConfig, setup: Setup, played: Rehearsal, card: Card) -> PhaseCost:
    parts = setup.parts(config.batch)
    special: dict[str, dict[str, float]] = {
        REFERENCE: {REFERENCE: config.reference_steps * parts, REFERENCE_DECODED: parts},
        ROLLOUT: {ROLLOUT: played.last_jump * parts},
    }
    times = special.get(name, {name: config.graded_steps * parts})
    done = {phase: often for phase, often in times.items() if phase in played.taken}
    flops: Counter[torch.dtype] = Counter()
    for phase, often in done.items():
        for dtype, count in played.taken[phase].flops.items():
            flops[dtype] += round(often * count)
    return PhaseCost(
        name=name,
        peak=max((played.taken[phase].peak + _gathered(setup, played, phase) for phase in done), default=0),
        parts=tuple(Part(times=often, flops=played.taken[phase].flops.total()) for phase, often in done.items()),
        seconds=_optimizer_seconds(setup, played, card) if name == OPTIMIZER else _seconds(name, flops, card),
    )


def _seconds(phase: str, flops: Counter[torch.dtype], card: Card) -> float | None:
    if not card.is_timed:
        return None
    speeds = {dtype: card.bfloat16 if dtype.itemsize == 2 else card.float32 for dtype in flops}
    return sum(count / speeds[dtype] for dtype, count in flops.items()) / SHARES.of(phase)


def _optimizer_seconds(setup: Setup, played: Rehearsal, card: Card) -> float | None:
    if not card.is_timed:
        return None
    own = played.trained / (setup.world if setup.sharded else 1)
    return own * OPTIMIZER_BYTES / (card.bandwidth * SHARES.optimizer)


def _notes(setup: Setup) -> Iterator[str]:
    if setup.world > 1:
        yield "the time in which processes exchange weights and gradients is left out"
    if setup.offload_idle:
        yield "the time in which the average and the start come from the CPU's memory is left out"
    if setup.reference_pool:
        yield "the references are taken from the pool: each is made once, at the cost of a reference rollout"
    if not setup.cache_conditions:
        yield "the time in which new texts and pictures are encoded is left out"
    yield "a step with a probe takes more time, and as much memory again as one more graph through the judge"


def advise(changes: Sequence[Change], fits: Callable[[Sequence[Change]], tuple[bool, int]]) -> Advice:
    """The changes that make it fit: one after the other until it does, then without those that are not needed.

    `fits` says whether it does with some of them, and the peak then.
    """
    taken: list[Change] = []
    enough, peak = fits(taken)
    for change in changes:
        if not enough:
            taken.append(change)
            enough, peak = fits(taken)
    for change in taken[-2::-1] if enough else ():  # the last one made it fit
        fewer = [other for other in taken if other is not change]
        still, smaller = fits(fewer)
        if still:
            taken, peak = fewer, smaller
    return Advice(settings=tuple(change.typed for change in taken), peak=peak, fits=enough)


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A run that can be tried with some of its setup changed."""

    config: RLConfig
    setup: Setup
    models: ModelShapes
    card: Card
    peak: int

    def __call__(self, changes: Sequence[Change]) -> tuple[bool, int]:
        """Whether it fits then, and the peak: without a rehearsal where what is always held is too much already."""
        if not changes:
            return False, self.peak
        setup = self.setup
        for change in changes:
            setup = replace(setup, **change.values)
        logger.info("rehearsing with %s", " ".join(change.typed for change in changes))
        held = held_bytes(self.config, setup, self.models)
        if held + reserve_of(self.card).of(self.card.memory) > self.card.memory:
            return False, held
        found = _plan_of(self.config, setup, rehearse(self.config, setup, self.models), self.card)
        return found.fits, found.peak


def _changes(setup: Setup) -> list[Change]:
    """What a user can change, first what costs least."""
    changes = (
        (not setup.cache_conditions, "--set cache_conditions=true", {"cache_conditions": True}),
        (not setup.checkpointing, "--set checkpointing=true", {"checkpointing": True}),
        (setup.micro_batch > 1, "--set micro_batch=1", {"micro_batch": 1}),
        (setup.world > 1 and not setup.sharded, "--sharded", {"sharded": True}),
        (not setup.offload_idle, "--offload-idle", {"offload_idle": True}),
        (not setup.lora_rank, f"--set lora_rank={LORA_RANK}", {"lora_rank": LORA_RANK}),
    )
    return [Change(typed=typed, values=values) for possible, typed, values in changes if possible]
