"""What `onereward plan` says of a step's memory against what the step takes, on a CPU, for four toy shapes.

    OMP_NUM_THREADS=1 python -m benchmarks.plan_memory

Each shape is an editor and a judge of the toy's classes with random weights in ordinary folders. Predicted is the peak
of the plan, from the folders' config files alone. Measured is the second of two steps by `rl.train` and `Updater` with
models loaded from those folders: what is alive before it (every tensor that Python knows, a storage counted once) plus
the most that torch's allocator had given out beyond that during the step, which holds the kernels' own buffers too. The
run fails if a prediction is more than 15 % off, or if the shapes' peaks do not spread fourfold.
"""

import gc
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxFillPipeline
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.profiler import ProfilerActivity, profile

from onereward.models.contract import save_contract
from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.device import Precision
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.quiet import quietly
from onereward.plan import ModelShapes, Setup, card_of, editor_shapes, judge_shapes, plan
from onereward.recipes.toy import toy
from onereward.rl import reference_images, reference_of, train
from onereward.rl_terms import Batch, RLConfig
from onereward.runtime.threads import torch_threads
from onereward.runtime.update import Updater
from onereward.terms import Task
from onereward.toy.editor_model import (
    CONTRACT,
    LATENT_CHANNELS,
    build_scheduler,
    build_text_encoders,
    build_tokenizers,
    build_transformer,
)
from onereward.toy.judge_model import (
    new_toy_judge,
    save_judge_folder,
    toy_judge_config,
    toy_judge_tokenizer,
    toy_texts,
)

TOLERANCE, SPREAD = 0.15, 4.0
PROMPT = "a red star"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One run: how wide and deep its models are, and how it trains."""

    width: int
    layers: tuple[int, int]
    vae: tuple[int, int, int]
    judge_width: int
    judge_layers: int
    side: int
    batch: int
    micro_batch: int
    lora_rank: int = 0
    checkpointing: bool = False
    precision: Precision = Precision.FLOAT32
    changes: Mapping[str, Any] | None = None
    """Of the toy recipe's algorithm."""

    @property
    def config(self) -> RLConfig:
        """The toy recipe at this batch."""
        return replace(toy(), batch=self.batch, **(self.changes or {}))

    @property
    def setup(self) -> Setup:
        return Setup(
            precision=self.precision,
            lora_rank=self.lora_rank,
            checkpointing=self.checkpointing,
            cache_conditions=False,
            reference_pool=0,
            micro_batch=self.micro_batch,
            judge_pixels=448 * 448,
            pixels=None,
        )


_TOY = Shape(
    width=192, layers=(2, 4), vae=(16, 32, 64), judge_width=128, judge_layers=4, side=64, batch=8, micro_batch=8
)
SHAPES = {
    "adapters, recomputed": replace(
        _TOY, width=128, layers=(1, 2), judge_width=64, batch=2, micro_batch=2, lora_rank=4, checkpointing=True
    ),
    "all weights": _TOY,
    "all weights, wide, recomputed, in parts": replace(
        _TOY, width=512, layers=(2, 6), batch=8, micro_batch=2, checkpointing=True, changes={"graded_steps": 1}
    ),
    "adapters, bfloat16, large images": replace(
        _TOY, side=128, batch=4, micro_batch=4, lora_rank=16, precision=Precision.BFLOAT16, changes={"anchor": 0.0}
    ),
}


def main() -> None:
    with torch_threads(1):
        print(json.dumps(compare(SHAPES), indent=1))


def compare(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Predicted and measured bytes, and their ratio, of each shape; RuntimeError if the claim does not hold."""
    found = {}
    for name, shape in shapes.items():
        with tempfile.TemporaryDirectory() as folder:
            write_models(Path(folder), shape)
            predicted, measured = predict(Path(folder), shape), measure(Path(folder), shape)
        found[name] = {"predicted": predicted, "measured": measured, "ratio": round(predicted / measured, 3)}
    spread = max(one["predicted"] for one in found.values()) / min(one["predicted"] for one in found.values())
    off = max(abs(one["ratio"] - 1) for one in found.values())
    if off > TOLERANCE or spread < SPREAD:
        raise RuntimeError(f"{off:.1%} off at most, spread {spread:.1f}: {found}")
    return {"off_at_most": round(off, 3), "spread": round(spread, 2), **found}


def predict(folder: Path, shape: Shape) -> int:
    """The plan's peak, in bytes."""
    models = ModelShapes(editor=editor_shapes(str(folder / "editor")), judge=judge_shapes(str(folder / "judge")))
    card, _ = card_of("cpu")
    return plan(shape.config, shape.setup, models, card).peak


def measure(folder: Path, shape: Shape) -> int:
    """The most bytes of the second step."""
    gc.collect()
    foreign = live_bytes()
    step = _Step(folder, shape)
    step()
    step.forget_gradients()
    gc.collect()
    held = live_bytes() - foreign
    return held + peak_beyond(step)


def live_bytes() -> int:
    """Of all tensors that Python knows."""
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor) and not issubclass(type(thing), FakeTensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def peak_beyond(work: Callable[[], object]) -> int:
    """The most bytes that the work had at once from torch's allocator, beyond what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == "[memory]"]
    first, *_ = (event["args"] for event in sorted(events, key=lambda event: event["ts"]))
    before = int(first["Total Allocated"]) - int(first["Bytes"])
    return max(int(event["args"]["Total Allocated"]) for event in events) - before


class _Step:
    """A training's models and what a step of it does, again and again."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self._config, setup = shape.config, shape.setup
        self._editor = load_flux_fill(str(folder / "editor"), dtype=setup.precision.dtype)
        as_saved = setup.precision is Precision.FLOAT32
        self._judge = load_qwen_vl(str(folder / "judge"), dtype=None if as_saved else setup.precision.dtype)
        transformer: Any = self._editor.transformer
        if setup.checkpointing:
            transformer.enable_gradient_checkpointing()
            self._editor.vae.enable_gradient_checkpointing()
            self._judge.recompute_activations()
        bfloat16 = setup.precision is Precision.BFLOAT16
        self._copies = (
            AdapterCopies(transformer, rank=setup.lora_rank, seed=0, bfloat16=bfloat16)
            if setup.lora_rank
            else WholeCopies(transformer, keep_start=self._config.needs_start, bfloat16=bfloat16)
        )
        self._updater = Updater(self._copies.module, learning_rate=1e-5, weight_decay=0.01, clip=1.0)
        whole, part = shape.batch, setup.micro_batch
        self._batches = [self._batch(shape.side, range(at, min(at + part, whole))) for at in range(0, whole, part)]

    def _batch(self, side: int, slots: range) -> Batch:
        generator = torch.Generator().manual_seed(0)
        image_B3HW = torch.rand(len(slots), 3, side, side, generator=generator) * 2 - 1
        mask_B1HW = torch.zeros(len(slots), 1, side, side)
        mask_B1HW[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 1
        keys = [(0, 1, slot) for slot in slots]
        prompts = [PROMPT] * len(slots)
        return Batch(
            task=Task.FILL,
            prompts=prompts,
            keys=keys,
            reference_keys=keys,
            abreast=keys,
            image_B3HW=image_B3HW,
            mask_B1HW=mask_B1HW,
            condition=self._editor.encode(image_B3HW, mask_B1HW, prompts),
        )

    def __call__(self) -> None:
        reference = reference_of(self._copies, self._config)
        references = partial(reference_images, self._editor, reference, config=self._config)
        for _ in train(
            self._copies, self._editor, self._judge, references, [self._batches], self._updater, self._config
        ):
            pass

    def forget_gradients(self) -> None:
        """As the next step begins."""
        self._copies.module.zero_grad(set_to_none=True)


def write_models(folder: Path, shape: Shape) -> None:
    """An editor and a judge of that shape with random weights, in folders that load as any other."""
    clip, t5 = build_tokenizers()
    text_encoder, text_encoder_2 = build_text_encoders(clip, t5)
    with quietly():
        FluxFillPipeline(
            scheduler=build_scheduler(),
            vae=_vae(shape.vae),
            text_encoder=text_encoder,
            tokenizer=clip,
            text_encoder_2=text_encoder_2,
            tokenizer_2=t5,
            transformer=build_transformer(shape.width, *shape.layers),
        ).save_pretrained(folder / "editor")
    save_contract(folder / "editor", replace(CONTRACT, native_size=shape.side))
    tokenizer = toy_judge_tokenizer(toy_texts())
    config = toy_judge_config(
        tokenizer, width=shape.judge_width, text_layers=shape.judge_layers, vision_layers=shape.judge_layers
    )
    save_judge_folder(folder / "judge", new_toy_judge(config, seed=0), tokenizer)


def _vae(channels: tuple[int, ...]) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        mid_block_add_attention=False,
        shift_factor=0.0,
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


if __name__ == "__main__":
    main()
