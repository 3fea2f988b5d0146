"""RL on the toy world: some three minutes on one thread.

onereward train-rl toy --output runs/rl
"""

from dataclasses import dataclass, replace
from random import Random

from onereward.generate.settings import GenerateConfig, config_around
from onereward.losses import Reward
from onereward.models.contract import Contract
from onereward.models.device import Precision
from onereward.terms import Dimension, Task, Triplet
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene
from onereward.train.alarms import Action, Alarm
from onereward.train.rl_config import Release, TrainRLConfig

TOY_SCENES = "toy scenes"


def toy(*, dynamic: bool = False) -> TrainRLConfig:
    """Algorithm 1 (or 2); docs/log.md has the sweeps behind the values."""
    return TrainRLConfig(
        editor="toy",
        judge="toy",
        held_out_judge=None,
        triplets=TOY_SCENES,
        pixels=None,
        judge_pixels=448 * 448,
        seed=0,
        steps=100,
        dynamic=dynamic,
        task_mix={Task.FILL: 0.25, Task.EXTEND: 0.2, Task.REMOVE: 0.45, Task.TEXT: 0.1},  # removal gains most slowly
        batch=12,
        micro_batch=12,
        reference_steps=4,
        reference_cache=0.0,
        policy_steps=4,
        graded_steps=1,
        jump_range=(0.15, 0.6),  # the last of four steps; earlier jumps gain no more and cost consistency
        bound=0.9,  # lambda: a dimension that is won lets the others have the gradient
        decay=0.99,  # tau: over 100 steps .9999 would leave the average at the start
        reward=Reward.PROBABILITY,
        dimension_weights=dict.fromkeys(Dimension, 1.0),
        anchor=0.1,  # holds back changes too small to see
        kl=0.0,
        flow_matching=0.0,
        paste_back=True,  # as the judge's candidates were
        shift=4,  # all phases of the editor's and the judge's 8-pixel grids
        tone=0.1,
        both_orders=True,
        precision=Precision.FLOAT32,
        lora_rank=0,
        checkpointing=False,
        cache_conditions=False,  # there is no end of scenes
        reference_pool=0,
        staleness=0,
        learning_rate=3e-5,  # twice as much, or half as many steps more, costs consistency
        weight_decay=0.01,
        clip=1.0,
        release=Release.AVERAGE,
        threads=1,
        probe_every=10,
        checkpoint_every=25,
        alarm_actions=dict.fromkeys(Alarm, Action.WARN),
        alarm_fall=0.03,
        alarm_patience=2,
        alarm_floor=0.35,
        alarm_drift={"saturation": 0.1, "contrast": 0.05, "high_frequencies": 0.05},
    )


def toy_candidates(contract: Contract, *, candidates: int, seed: int) -> GenerateConfig:
    """What `generate` draws around the toy editor's contract, with more noise: its seeds alone differ little."""
    return replace(config_around(contract, candidates=candidates, seed=seed), noise_scale=(0.7, 1.9))


@dataclass(frozen=True, kw_only=True)
class ToyScenes:
    """Endless training scenes from index `first` on (`TripletSource`)."""

    split: Split = Split.TRAIN
    first: int = 100_000
    blocks: int = 1_000_000

    @property
    def name(self) -> str:
        return f"{TOY_SCENES}, {self.split}, from {self.first} on"

    def draw(self, task: Task, random: Random) -> Triplet:
        places = [place for place, cycled in enumerate(TASK_CYCLE) if cycled is task]
        block = -(-self.first // len(TASK_CYCLE)) + random.randrange(self.blocks)
        return make_scene(self.split, block * len(TASK_CYCLE) + random.choice(places)).triplet()

    def all(self) -> None:
        """There is no end of them."""


def toy_probe(scenes: int = 48) -> list[Triplet]:
    """Validation scenes of the win rate, in the world's own mix of tasks."""
    return [make_scene(Split.VALIDATION, index).triplet() for index in range(scenes)]
