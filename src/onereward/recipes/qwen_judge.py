"""The paper's judge: Qwen2.5-VL-7B-Instruct, all weights, batch 16, learning rate 1e-6 (Sec. 5.1).

onereward train-reward qwen --input preferences/ --output judge/
"""

from onereward.query import Variant
from onereward.runtime.update import Optimizer
from onereward.train.reward import RewardConfig


def qwen_judge() -> RewardConfig:
    """The paper's values where it gives them; it gives neither steps nor the rest.

    Steps: two passes over its 120,000 pairs. Warm-up, decay 0.01 and clip 1 are the customary values of fine-tuning a
    model of this size; no moving average, since none is mentioned.
    """
    return RewardConfig(
        judge="Qwen/Qwen2.5-VL-7B-Instruct",
        variant=Variant.TASK_DIMENSION,
        seed=0,
        steps=15_000,
        batch=16,
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
        autocast=True,
        validate_every=500,
        checkpoint_every=500,
    )
