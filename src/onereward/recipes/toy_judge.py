"""The toy judge on the toy world's preferences: about four minutes on two cores, one thread each.

onereward train-reward toy --input preferences/ --output judge/ --processes 2
"""

from onereward.models.device import Precision
from onereward.query import Variant
from onereward.runtime.update import Optimizer
from onereward.train.pairs import CELLS
from onereward.train.reward import RewardConfig


def toy_judge() -> RewardConfig:
    """Every value of the run; the paper gives Eq. 3, batch 16 and learning rate 1e-6 for the 7B model."""
    return RewardConfig(
        judge="toy",
        variant=Variant.TASK_DIMENSION,
        max_pixels=448 * 448,
        lora_rank=0,
        vision=True,
        seed=0,
        steps=600,
        batch=16,
        micro_batch=16,
        sampling=dict.fromkeys(CELLS, 1.0),
        tie_weight=0.0,
        optimizer=Optimizer.MUON,
        learning_rate=6e-4,
        warm_up=30,
        cool_down=1.0,
        weight_decay=0.01,
        clip=1.0,
        decay=0.99,
        mirror=True,
        shift=3,  # a judge that leans on its patch grid is climbed by a lattice (docs/log.md)
        tone=0.1,
        precision=Precision.BFLOAT16,
        checkpointing=False,
        validate_every=100,
        patience=0,
        checkpoint_every=50,
    )
