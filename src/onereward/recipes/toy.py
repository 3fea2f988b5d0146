"""RL on the toy world: about three minutes on one thread.

onereward train-rl toy --output runs/rl
"""

from dataclasses import dataclass
from random import Random

from onereward.terms import Task, Triplet
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene
from onereward.train.rl import Release, TrainRLConfig

TOY_SCENES = "toy scenes"


def toy(*, dynamic: bool = False) -> TrainRLConfig:
    """Algorithm 1 (or 2), starting from values of the feasibility study; no sweep has chosen them yet."""
    return TrainRLConfig(
        editor="toy",
        judge="toy",
        triplets=TOY_SCENES,
        seed=0,
        steps=150,
        dynamic=dynamic,
        task_mix={Task.FILL: 0.3, Task.EXTEND: 0.25, Task.REMOVE: 0.3, Task.TEXT: 0.15},
        batch=8,
        micro_batch=8,
        reference_steps=8,
        policy_steps=8,
        jump_range=(0.3, 0.8),  # below, the jump changes colour but not shape; above, x0_hat is blurred
        bound=0.6,  # lambda: a saturated dimension lets the others have the gradient
        decay=0.98,  # tau: over 150 steps .9999 would leave the average at the start
        anchor=0.0,
        paste_back=False,
        both_orders=False,
        learning_rate=3e-5,  # the paper's 5e-6 is ten times too slow here, 2e-4 is hacked within 75 steps
        weight_decay=0.01,
        clip=1.0,
        release=Release.AVERAGE,
        threads=1,
        probe_every=10,
        checkpoint_every=25,
    )


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


def toy_probe(scenes: int = 48) -> list[Triplet]:
    """Validation scenes of the win rate, in the world's own mix of tasks."""
    return [make_scene(Split.VALIDATION, index).triplet() for index in range(scenes)]
