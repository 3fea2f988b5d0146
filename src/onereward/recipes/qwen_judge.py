"""The judge at its real size: the paper's (Sec. 5.1), and what one card can train of it.

torchrun --nproc-per-node 8 -m onereward train-reward qwen --sharded --input preferences/ --output judge/
onereward train-reward qwen-lora --input preferences/ --output judge/
onereward train-reward qwen-3b-lora --input preferences/ --output judge/

On several nodes the output folder must be one that all of them see.

Memory by arithmetic, none of it measured here. `qwen`: 16 bytes a weight (float32 weights, gradients and AdamW's two
averages) of 8.3 billion are 133 GB over the processes, so four cards of 80 GB or more. `qwen-lora`: 17 GB of bfloat16
weights, under 4 GB for the adapters, the rest for activations: one card of 80 GB. `qwen-3b-lora`: 7.5 GB and 1.3 GB,
one card of 24 GB.
"""

from dataclasses import replace

from onereward.models.device import Precision
from onereward.query import Variant
from onereward.runtime.update import Optimizer
from onereward.train.pairs import CELLS
from onereward.train.reward import RewardConfig


def qwen_judge() -> RewardConfig:
    """The paper's values where it gives them: all weights of the 7B model, batch 16, learning rate 1e-6.

    It gives neither steps nor the rest. Steps: two passes over its 120,000 pairs. Warm-up, decay 0.01 and clip 1 are
    the customary values of fine-tuning a model of this size; no moving average and no early stop, since none is
    mentioned. The vision tower is trained: others' users found that it matters.
    """
    return RewardConfig(
        judge="Qwen/Qwen2.5-VL-7B-Instruct",
        variant=Variant.TASK_DIMENSION,
        max_pixels=448 * 448,
        lora_rank=0,
        vision=True,
        seed=0,
        steps=15_000,
        batch=16,
        micro_batch=2,
        sampling=dict.fromkeys(CELLS, 1.0),
        tie_weight=0.0,
        optimizer=Optimizer.ADAMW,
        learning_rate=1e-6,
        warm_up=100,
        cool_down=0.0,
        weight_decay=0.01,
        clip=1.0,
        decay=0.0,
        mirror=False,
        shift=0,
        tone=0.0,
        precision=Precision.BFLOAT16,
        checkpointing=True,
        validate_every=500,
        patience=0,
        checkpoint_every=500,
    )


def qwen_lora_judge() -> RewardConfig:
    """The 7B model by adapters of rank 64, at the rate that adapters of this kind customarily take; untested here."""
    return replace(
        qwen_judge(), lora_rank=64, learning_rate=5e-5, weight_decay=0.0, micro_batch=4, steps=7_500, cool_down=1.0
    )


def qwen_3b_lora_judge() -> RewardConfig:
    """The 3B model, a pair at a time."""
    return replace(qwen_lora_judge(), judge="Qwen/Qwen2.5-VL-3B-Instruct", lora_rank=32, micro_batch=1)
