"""RL of FLUX.1-Fill: the paper's two algorithms on all weights, and adapters for one card.

torchrun --nproc-per-node 8 -m onereward train-rl flux_fill --sharded --input triplets --judge judge/final --output run
torchrun --nproc-per-node 8 -m onereward train-rl flux_fill_dynamic --sharded ...
onereward train-rl flux_fill_lora --input triplets/ --judge judge/final --output run/

`onereward plan RECIPE --gpu 80GB --world 8` says what a step needs. On several nodes the run's folder must be one that
all of them see (docs/how-to/train-at-the-size-of-flux.md).
"""

from dataclasses import replace

from onereward.losses import Reward
from onereward.models.device import Precision
from onereward.models.load import FLUX_FILL
from onereward.terms import Dimension, Task
from onereward.train.alarms import Action, Alarm
from onereward.train.rl_config import Release, TrainRLConfig


def flux_fill(*, dynamic: bool = False) -> TrainRLConfig:
    """Algorithm 1 (or 2) as the paper states it: its task mix, batch 8, AdamW at 5e-6; on 8 cards of 80 GB.

    It gives no other value. Those of the loss are the ones by which the toy editor learnt without harm (docs/log.md),
    not swept at this size; sampling is few-step, since rollouts are most of the cost and only their order counts.
    """
    return TrainRLConfig(
        editor=FLUX_FILL,
        judge="judge/final",
        held_out_judge=None,
        triplets="triplets",
        pixels=512 * 512,
        judge_pixels=448 * 448,
        seed=0,
        steps=1000,
        dynamic=dynamic,
        task_mix={Task.FILL: 0.35, Task.EXTEND: 0.35, Task.REMOVE: 0.30},
        batch=8,
        micro_batch=1,
        reference_steps=20,
        reference_cache=0.0,
        policy_steps=20,
        graded_steps=1,
        jump_range=(0.15, 0.6),  # noise levels, the same ones at every resolution
        bound=0.9,
        # Over 1000 steps the average is some 200 behind: at .9999 it would stay at the start, and Algorithm 2 be 1.
        decay=0.995,
        reward=Reward.PROBABILITY,
        dimension_weights=dict.fromkeys(Dimension, 1.0),
        anchor=0.0,
        kl=0.0,
        flow_matching=0.0,
        paste_back=False,
        shift=0,
        tone=0.0,
        both_orders=False,
        precision=Precision.BFLOAT16,
        lora_rank=0,
        checkpointing=True,
        cache_conditions=True,
        reference_pool=0,
        staleness=0,
        learning_rate=5e-6,
        weight_decay=0.01,
        clip=1.0,
        release=Release.AVERAGE,
        threads=None,
        probe_every=25,
        checkpoint_every=50,
        alarm_actions={
            Alarm.HACKED: Action.ROLL_BACK,
            Alarm.COLLAPSED: Action.WARN,
            Alarm.DRIFTED: Action.WARN,
            Alarm.NOT_FINITE: Action.STOP,
        },
        alarm_fall=0.03,
        alarm_patience=2,
        alarm_floor=0.35,
        alarm_drift={"saturation": 0.1, "contrast": 0.05, "high_frequencies": 0.05},
    )


def flux_fill_dynamic() -> TrainRLConfig:
    """Algorithm 2."""
    return flux_fill(dynamic=True)


def flux_fill_lora() -> TrainRLConfig:
    """Adapters of rank 64 on one card of 80 GB, at the rate that back-propagation through a reward customarily takes.

    The judge sees both orders, and the images in varied tones and places, since adapters too can climb its habits
    (docs/log.md, toy); a pool of references spares most of the rollouts.
    """
    return replace(
        flux_fill(),
        lora_rank=64,
        learning_rate=5e-5,
        weight_decay=0.0,
        graded_steps=2,
        reference_pool=4,
        paste_back=True,
        shift=14,
        tone=0.1,
        both_orders=True,
        anchor=0.1,
    )
