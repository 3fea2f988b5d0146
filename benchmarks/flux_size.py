"""Seconds an image and peak memory at the size of FLUX.1-Fill: the stock FluxFillPipeline against this editor.

    python -m benchmarks.flux_size [--image-size 1024 --steps 50 --batch-sizes 1 4 --rounds 3] [--no-compile]

All parts have the real model's shapes (transformer 12 billion weights, T5-XXL, CLIP-L, the VAE) and random weights in
bfloat16, made on the GPU, so that nothing is fetched: speed and memory do not depend on what the weights are. Stock and
ours compute with the same weights, one after the other; stock encodes its prompt in every call and holds T5, ours has
encoded it before and let T5 go. In the clock: from a picture and a mask in memory to the edited picture in memory.
Outside: making weights, and one call to warm up (compile). The first line of stderr says on what this ran; without a
GPU a tiny model takes the big one's place, and its figures mean nothing.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel

from onereward.edit.editor import ImageEditor
from onereward.edit.jobs import EditRequest
from onereward.models.contract import Contract
from onereward.models.flux_fill import FluxFill
from onereward.runtime.threads import torch_threads
from onereward.terms import Task
from onereward.toy.tokenizers import toy_clip_tokenizer, toy_t5_tokenizer

PROMPT = "a red star"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the shapes of all parts; the defaults are FLUX.1-Fill-dev's."""

    transformer_layers: tuple[int, int] = (19, 38)
    heads: int = 24
    rope: tuple[int, int, int] = (16, 56, 56)
    t5: tuple[int, int, int, int] = (4096, 10240, 24, 64)
    """Width, width of the feed-forward layer, layers, heads."""
    t5_words: int = 32128
    clip: tuple[int, int, int, int] = (768, 3072, 12, 12)
    clip_words: int = 49408
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_groups: int = 32
    latent_channels: int = 16
    text_tokens: int = 512


FLUX = Sizes()
TINY = Sizes(
    transformer_layers=(1, 1),
    heads=2,
    rope=(2, 2, 4),
    t5=(16, 32, 1, 2),
    t5_words=512,
    clip=(16, 32, 1, 2),
    clip_words=512,
    vae_channels=(4, 4, 8, 8),
    vae_groups=2,
    latent_channels=4,
    text_tokens=12,
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    image_size: int = 1024
    steps: int = 50
    batch_sizes: tuple[int, ...] = (1, 4)
    rounds: int = 3
    compile: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=1024, metavar="PX")
    parser.add_argument("--steps", type=int, default=50, metavar="N")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4], metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="timed calls, of which the median counts")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave the compiled contestants out")
    args = parser.parse_args()
    settings = Settings(**{**vars(args), "batch_sizes": tuple(args.batch_sizes)})
    if torch.cuda.is_available():
        print(f"on {torch.cuda.get_device_name()}: FLUX.1-Fill's size, random weights, bfloat16", file=sys.stderr)
        found = measure(FLUX, settings, torch.device("cuda"), torch.bfloat16)
    else:
        print("NO GPU: A TINY MODEL ON THE CPU, A SMOKE TEST. THESE FIGURES SAY NOTHING ABOUT FLUX.", file=sys.stderr)
        tiny = replace(settings, image_size=64, steps=min(settings.steps, 2))
        with torch_threads(1):
            found = measure(TINY, tiny, torch.device("cpu"), torch.float32)
    print(json.dumps(found, indent=1))


def measure(sizes: Sizes, settings: Settings, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """The device, what was asked, and of each contestant seconds an image and peak memory (None on a CPU)."""
    picture, mask = _picture(settings.image_size)
    contract = Contract(steps=settings.steps, max_sequence_length=sizes.text_tokens)
    pipeline = random_pipeline(sizes, device, dtype)
    weights = sum(p.numel() * p.element_size() for part in _modules(pipeline) for p in part.parameters())
    stock = partial(_stock, pipeline, picture, mask, contract)
    found = {"stock, batch 1": _clock(stock, 1, settings, device)}
    image = stock()
    editor = ImageEditor(FluxFill(**pipeline.components, contract=contract))
    del pipeline, stock  # they hold T5
    editor.model.keep_texts([PROMPT])
    editor.model.free_text_encoders()
    request = EditRequest(image=picture, mask=mask, prompt=PROMPT, task=Task.FILL)
    [ours] = editor.edit_batch([request])
    for compiled in (False, True) if settings.compile else (False,):
        if compiled:
            transformer: Any = editor.model.transformer
            transformer.compile_repeated_blocks()
        for size in settings.batch_sizes:
            name = f"ours{', compiled' if compiled else ''}, batch {size}"
            requests = [replace(request, seed=seed) for seed in range(size)]
            found[name] = _clock(partial(editor.edit_batch, requests), size, settings, device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "is_flux_size": sizes == FLUX,
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "image_size": settings.image_size,
        "steps": settings.steps,
        "weights_gib": round(weights / 2**30, 3),
        "contestants": found,
        "speedup": {name: round(found["stock, batch 1"]["seconds"] / one["seconds"], 3) for name, one in found.items()},
        "share_of_values_off_stock_by_more_than_one_level": _difference(image, ours, mask),
    }


def random_pipeline(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> FluxFillPipeline:
    """A FluxFillPipeline of these sizes, its random weights made on the device, in its precision at once."""
    words = PROMPT.split()
    clip_tokenizer = toy_clip_tokenizer(words, max_length=min(77, sizes.text_tokens))
    latents, factor = sizes.latent_channels, 2 ** (len(sizes.vae_channels) - 1)
    with _made_as(device, dtype):
        pipeline = FluxFillPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15),
            vae=AutoencoderKL(
                block_out_channels=sizes.vae_channels,
                down_block_types=("DownEncoderBlock2D",) * len(sizes.vae_channels),
                up_block_types=("UpDecoderBlock2D",) * len(sizes.vae_channels),
                layers_per_block=2,
                latent_channels=latents,
                norm_num_groups=sizes.vae_groups,
                shift_factor=0.1159,
                scaling_factor=0.3611,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            text_encoder=_clip(sizes, clip_tokenizer),
            tokenizer=clip_tokenizer,
            text_encoder_2=_t5(sizes),
            tokenizer_2=toy_t5_tokenizer(words, max_length=sizes.text_tokens),
            transformer=FluxTransformer2DModel(
                in_channels=2 * 4 * latents + 4 * factor**2,
                out_channels=4 * latents,
                num_layers=sizes.transformer_layers[0],
                num_single_layers=sizes.transformer_layers[1],
                attention_head_dim=sum(sizes.rope),
                num_attention_heads=sizes.heads,
                joint_attention_dim=sizes.t5[0],
                pooled_projection_dim=sizes.clip[0],
                guidance_embeds=True,
                axes_dims_rope=sizes.rope,
            ),
        )
    for part in _modules(pipeline):
        part.eval()  # T5 drops out otherwise
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _clip(sizes: Sizes, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    width, inner, layers, heads = sizes.clip
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=sizes.clip_words,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _t5(sizes: Sizes) -> T5EncoderModel:
    width, inner, layers, heads = sizes.t5
    return T5EncoderModel(
        T5Config(
            vocab_size=sizes.t5_words,
            d_model=width,
            d_kv=64,
            d_ff=inner,
            num_layers=layers,
            num_heads=heads,
            feed_forward_proj="gated-gelu",
        )
    )


@contextmanager
def _made_as(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Modules made inside lie on the device in that precision: 12 billion weights never exist in float32."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def _modules(pipeline: FluxFillPipeline) -> list[torch.nn.Module]:
    return [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]


def _picture(size: int) -> tuple[Image.Image, Image.Image]:
    """Noise, and a mask that is white in the middle quarter."""
    pixels = numpy.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=numpy.uint8)
    mask = Image.new("L", (size, size))
    mask.paste(255, (size // 4, size // 4, 3 * size // 4, 3 * size // 4))
    return Image.fromarray(pixels), mask


def _stock(pipeline: FluxFillPipeline, picture: Image.Image, mask: Image.Image, contract: Contract) -> Image.Image:
    image: Image.Image = pipeline(
        prompt=PROMPT,
        image=picture,
        mask_image=mask,
        height=picture.height,
        width=picture.width,
        num_inference_steps=contract.steps,
        guidance_scale=contract.guidance,
        max_sequence_length=contract.max_sequence_length,
        generator=torch.Generator().manual_seed(0),
    ).images[0]
    return image


def _clock(make: Callable[[], object], images: int, settings: Settings, device: torch.device) -> dict[str, Any]:
    """Median seconds an image over the rounds after one to warm up, and the most memory that was in use in them."""
    make()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(settings.rounds):
        started = time.perf_counter()
        make()  # ends with pixels on the CPU, so the GPU has finished
        seconds.append((time.perf_counter() - started) / images)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {"seconds": round(statistics.median(seconds), 4), "peak_gib": peak and round(peak, 2)}


def _difference(one: Image.Image, other: Image.Image, mask: Image.Image) -> float:
    """The share of values inside the mask in which one image differs from the other by more than one level."""
    inside = numpy.asarray(mask) > 0
    difference = abs(numpy.asarray(one).astype(int) - numpy.asarray(other))[inside]
    return float((difference > 1).mean())


if __name__ == "__main__":
    main()
