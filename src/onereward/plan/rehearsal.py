"""One step of RL on shapes: the very code that trains, with models that hold no numbers.

Shape legend: B samples, H W pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.device import Precision
from onereward.models.flux_fill import FluxFill
from onereward.models.qwen_vl import QwenVLJudge
from onereward.plan.meter import Meter, Taken
from onereward.plan.shapes import PROMPT, EditorShapes, JudgeShapes, ModelShapes, pixels_of
from onereward.rl import draw_jumps, reference_images, reference_of, train
from onereward.rl_terms import Batch, RLConfig
from onereward.runtime.update import Updater
from onereward.terms import Task

BASE, POLICY, AVERAGE, START = "frozen base", "policy", "average", "frozen start"
GRADIENTS, MOMENTS = "gradients", "AdamW's two moments"
VAE, JUDGE, HELD_OUT, TEXT_ENCODERS = "VAE", "judge", "held-out judge", "text encoders"

EXCHANGED = "gradients in one row"

# The phases that a run's log has too, and the reference's decoding.
REFERENCE, ROLLOUT, REGULARISER, GRADED = "reference rollout", "policy rollout", "regulariser", "graded step"
REFERENCE_DECODED, DECODED, BACKWARD, OPTIMIZER = "reference decode", "decode", "backward", "optimizer"

_SAMPLES_OF_JUMPS = 64


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How a run is laid out, beside what the algorithm is told; all up to `pixels` are fields of `TrainRLConfig`."""

    precision: Precision
    lora_rank: int
    checkpointing: bool
    cache_conditions: bool
    reference_pool: int
    micro_batch: int
    judge_pixels: int
    pixels: int | None
    world: int = 1
    sharded: bool = False
    offload_idle: bool = False
    on_gpu: bool = False

    @property
    def gathers_bfloat16(self) -> bool:
        """Whether blocks are put together in bfloat16 from what the processes hold in float32."""
        return self.sharded and not self.lora_rank and self.precision is Precision.BFLOAT16

    def parts(self, batch: int) -> int:
        """Micro-batches of a step, one after the other."""
        return -(-batch // (self.micro_batch * self.world))

    def samples(self, batch: int) -> int:
        """Samples of the largest micro-batch of one process."""
        return min(self.micro_batch, -(-batch // self.world))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Tensors that stay: how many numbers of them all, and the bytes of one in this process."""

    numbers: int
    bytes_each: float


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What one part of a step took, by phase; of what, by label; and what more there is to know of it.

    `blocks` counts the modules whose calls have a label, `largest_block` is the bytes of the weights of the largest,
    `last_jump` the mean step to which a micro-batch's rollout goes, `side` that of the square images.
    """

    taken: Mapping[str, Taken]
    kept: Mapping[str, Kept]
    blocks: Mapping[str, int]
    trained: int
    largest_block: int
    last_jump: float
    side: int


def rehearse(config: RLConfig, setup: Setup, models: ModelShapes) -> Rehearsal:
    """One part of a step by `rl.train` and `Updater`, on shapes, with one gradient-free step of each rollout.

    The optimizer's moments are there from the start, and gradients too if they are of an earlier part.
    """
    meter = _meter(setup)
    with meter:
        return _play(meter, _cast(meter, config, setup, models), config, setup, models.editor)


def held_bytes(config: RLConfig, setup: Setup, models: ModelShapes) -> int:
    """What a process holds all the time: weights, and AdamW's moments."""
    meter = _meter(setup)
    with meter:
        cast = _cast(meter, config, setup, models)
    moments = 2 * cast.kept[POLICY].numbers * cast.kept[POLICY].bytes_each
    return round(sum(kept.numbers * kept.bytes_each for kept in cast.kept.values()) + moments)


@dataclass(frozen=True, kw_only=True)
class _Cast:
    """Who takes part, without numbers."""

    editor: FluxFill
    judge: QwenVLJudge
    held_out: QwenVLJudge | None
    copies: WholeCopies
    kept: Mapping[str, Kept]


def _meter(setup: Setup) -> Meter:
    share = 1 / setup.world if setup.sharded else 1.0
    # The bfloat16 shapes of what the processes hold in float32 count twice.
    held = share * (2 if setup.gathers_bfloat16 else 1)
    trained = dict.fromkeys((POLICY, AVERAGE, START, GRADIENTS, MOMENTS, OPTIMIZER), held)
    away = dict.fromkeys((AVERAGE, START), 0.0) if setup.offload_idle else {}
    held_out = 0.0 if setup.offload_idle and not setup.sharded else share
    return Meter({BASE: share, JUDGE: share, HELD_OUT: held_out, **trained, **away})


def _cast(meter: Meter, config: RLConfig, setup: Setup, models: ModelShapes) -> _Cast:
    editor = models.editor.build(setup.precision.dtype)
    judge = _judge(models.judge, setup)
    held_out = None if models.held_out is None else _judge(models.held_out, setup)
    transformer: Any = editor.transformer
    if setup.checkpointing:
        transformer.enable_gradient_checkpointing()
        editor.vae.enable_gradient_checkpointing()
        judge.recompute_activations()
    encoders: list[nn.Module] = []
    if setup.cache_conditions:
        editor.free_text_encoders()
    else:
        encoders = [editor.text_encoder, editor.text_encoder_2]
    with meter.phase(START):
        copies = _copies(transformer, config, setup)
    named = dict(copies.module.named_parameters())
    groups: dict[str, Iterable[Tensor]] = {
        BASE: [weight for weight in named.values() if not weight.requires_grad],
        POLICY: [weight for weight in named.values() if weight.requires_grad],
        AVERAGE: copies.kept_average.values.values(),
        VAE: editor.vae.parameters(),
        JUDGE: judge.model.parameters(),
        HELD_OUT: held_out.model.parameters() if held_out is not None else [],
        TEXT_ENCODERS: chain.from_iterable(encoder.parameters() for encoder in encoders),
    }
    return _Cast(editor=editor, judge=judge, held_out=held_out, copies=copies, kept=_kept(meter, groups))


def _play(meter: Meter, cast: _Cast, config: RLConfig, setup: Setup, editor_shapes: EditorShapes) -> Rehearsal:
    editor, judge, copies = cast.editor, cast.judge, cast.copies
    side, samples = editor_shapes.side(setup.pixels), setup.samples(config.batch)
    watch(meter, editor, judge)
    condition = editor_shapes.condition(samples, side, side, setup.precision.dtype)
    last_jump = _last_jump(config, editor.times(condition, config.policy_steps), setup)
    batch = _batch(condition, side, samples)
    trained = [parameter for parameter in copies.module.parameters() if parameter.requires_grad]
    updater = Updater(copies.module, learning_rate=0.0, weight_decay=0.0, clip=1.0, phase=meter.phase)
    with _watched(meter, trained, foreach=setup.on_gpu):
        updater(iter([torch.stack([parameter.sum() for parameter in trained]).sum()]))  # this makes the moments
        for parameter in trained:
            parameter.grad = None
        meter.restart()
        earlier = setup.parts(config.batch) * config.graded_steps > 1
        update = partial(_update, updater, trained, meter, setup, earlier)
        references = _references(meter, copies, editor, config, setup)
        for _ in train(copies, editor, judge, references, [[batch]], update, _shortened(config)):
            pass
    return Rehearsal(
        taken=meter.taken,
        kept=cast.kept,
        blocks=meter.modules,
        trained=sum(parameter.numel() for parameter in trained),
        largest_block=_largest_block(copies.module, judge.reader),
        last_jump=last_jump,
        side=side,
    )


def _copies(transformer: Any, config: RLConfig, setup: Setup) -> WholeCopies:
    bfloat16 = setup.precision is Precision.BFLOAT16
    offload = setup.offload_idle and not setup.sharded  # a part of split weights changes places with what is on the CPU
    if setup.lora_rank:
        return AdapterCopies(transformer, rank=setup.lora_rank, seed=0, bfloat16=bfloat16, offload=offload)
    if setup.gathers_bfloat16:
        return _Gathered(transformer, keep_start=config.needs_start, bfloat16=True, split=_in_bfloat16)
    return WholeCopies(transformer, keep_start=config.needs_start, bfloat16=bfloat16, offload=offload)


class _Gathered(WholeCopies):
    """Weights as FSDP2 puts them together for a call, in bfloat16; those that are averaged are the float32 ones."""

    def update_average(self, decay: float) -> None:
        pass


def _in_bfloat16(transformer: nn.Module) -> None:
    for weight in transformer.parameters():
        weight.data = weight.data.to(torch.bfloat16)


def _kept(meter: Meter, groups: Mapping[str, Iterable[Tensor]]) -> dict[str, Kept]:
    """Names the tensors; what the copies made and is in no group is the start."""
    kept = {}
    for label, group in groups.items():
        tensors = list(group)
        if tensors:
            meter.name(tensors, label)
            numbers = sum(tensor.numel() for tensor in tensors)
            kept[label] = Kept(numbers=numbers, bytes_each=meter.bytes_of(label) / numbers)
    numbers = kept[POLICY].numbers
    if meter.bytes_of(START) > meter.bytes_of(POLICY) / 2:  # more than what is left of making adapters
        kept[START] = Kept(numbers=numbers, bytes_each=meter.bytes_of(START) / numbers)
    return {label: kept[label] for label in (BASE, POLICY, AVERAGE, START, *groups) if label in kept}


def _judge(shapes: JudgeShapes, setup: Setup) -> QwenVLJudge:
    """As `train-rl` loads it: in float32 runs as it is saved."""
    as_saved = setup.precision is Precision.FLOAT32
    return shapes.build(shapes.saved if as_saved else setup.precision.dtype, setup.judge_pixels)


def watch(meter: Meter, editor: FluxFill, judge: QwenVLJudge) -> None:
    """From now on the calls of the models are phases, and what their blocks make has their labels."""

    def of_transformer() -> str:
        if torch.is_grad_enabled():
            return GRADED
        return REFERENCE if meter.is_in(REFERENCE) else REGULARISER if GRADED in meter.taken else ROLLOUT

    def of_decoder() -> str:
        return REFERENCE_DECODED if meter.is_in(REFERENCE) else DECODED

    roots: Sequence[tuple[str, nn.Module, Callable[[], str]]] = (
        ("transformer", editor.transformer, of_transformer),
        ("VAE", editor.vae.decoder, of_decoder),
        ("judge", judge.reader, lambda: JUDGE),
    )
    for name, root, phase in roots:
        meter.watch(root, f"{name}, around its blocks", phase)
        for block in blocks_of(root):
            meter.watch(block, f"{name}, {type(block).__name__}")


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that stand in rows, such as layers; not those inside them."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if block is not None)  # a VAE may have no attention
        else:
            yield from blocks_of(child)


@contextmanager
def _watched(meter: Meter, trained: Sequence[nn.Parameter], *, foreach: bool) -> Iterator[None]:
    """Inside, gradients and moments have their labels, and AdamW works as on a GPU if `foreach`."""

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            group["foreach"] = foreach

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        moments = [value for state in optimizer.state.values() for name, value in state.items() if name != "step"]
        meter.name(moments, MOMENTS)

    def label(parameter: Tensor) -> None:
        assert parameter.grad is not None
        meter.name([parameter.grad], GRADIENTS)

    handles: list[Any] = [
        parameter.register_post_accumulate_grad_hook(label)  # type: ignore[no-untyped-call]
        for parameter in trained
    ]
    handles += [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _update(
    updater: Updater,
    trained: Sequence[nn.Parameter],
    meter: Meter,
    setup: Setup,
    earlier: bool,
    losses: Iterator[Tensor],
) -> None:
    """The step, with the gradients that an `earlier` part has left, and those of all processes added up."""

    def parts() -> Iterator[Tensor]:
        if earlier:
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
                meter.name([parameter.grad], GRADIENTS)
        yield from losses
        if setup.world > 1 and not setup.sharded:
            with meter.phase(EXCHANGED):
                torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])

    updater(parts())


def _references(
    meter: Meter, copies: WholeCopies, editor: FluxFill, config: RLConfig, setup: Setup
) -> Callable[[Batch], Tensor]:
    def references(batch: Batch) -> Tensor:
        if setup.reference_pool:
            return pixels_of(len(batch.keys), 3, batch.image_B3HW.shape[-1])
        with meter.phase(REFERENCE):
            return reference_images(editor, reference_of(copies, config), batch, _shortened(config))

    return references


def _largest_block(*modules: nn.Module) -> int:
    """Bytes of the weights of the largest block of all, as it is used."""
    blocks = [block for module in modules for block in blocks_of(module)]
    return max(sum(weight.numel() * weight.element_size() for weight in block.parameters()) for block in blocks)


def _batch(condition: Any, side: int, samples: int) -> Batch:
    """Fills, which have the most dimensions."""
    keys = [("rehearsal", slot) for slot in range(samples)]
    return Batch(
        task=Task.FILL,
        prompts=[PROMPT] * samples,
        keys=keys,
        reference_keys=keys,
        abreast=keys,
        image_B3HW=pixels_of(samples, 3, side),
        mask_B1HW=pixels_of(samples, 1, side),
        condition=condition,
    )


def _shortened(config: RLConfig) -> RLConfig:
    """One step to the reference, one to where the policy jumps from: the others take what these take."""
    return replace(config, reference_steps=1, policy_steps=2, graded_steps=1, jump_range=(0.0, 0.9999))


def _last_jump(config: RLConfig, times: Tensor, setup: Setup) -> float:
    """The mean of the last step from which any sample of a micro-batch of all processes jumps."""
    together = min(setup.micro_batch * setup.world, config.batch)
    drawn = [
        draw_jumps([("rehearsal", trial, slot) for slot in range(together)], times, config).max().item()
        for trial in range(_SAMPLES_OF_JUMPS)
    ]
    return sum(drawn) / len(drawn)
