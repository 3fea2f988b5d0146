"""The smallest real editor: random weights in a folder that `FluxFillPipeline.from_pretrained` takes as it is."""

from pathlib import Path

import numpy
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from onereward.flow.shift import Shift
from onereward.models.contract import Contract, save_contract
from onereward.toy.tokenizers import toy_clip_tokenizer, toy_t5_tokenizer

WORDS = ("a", "red", "blue", "star", "disc", "sign", "that", "says", "remove", "nsfw")
LATENT_CHANNELS = 4
SCALE_FACTOR = 4
SEQUENCE_LENGTH = 12

TINY_CONTRACT = Contract(
    guidance=3.5,
    guidance_range=(2.0, 5.0),
    steps=3,
    shift=Shift(),
    max_sequence_length=SEQUENCE_LENGTH,
    size_multiple=2 * SCALE_FACTOR,
    native_size=32,
)


def tiny_flux_fill_folder(path: Path, *, contract: Contract | None = TINY_CONTRACT, seed: int = 0) -> Path:
    """A random FLUX Fill of width 16 (VAE factor 4, 4 latent channels), saved under `path`; returns `path`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pipeline = _tiny_pipeline()
    pipeline.save_pretrained(path)
    if contract is not None:
        save_contract(path, contract)
    return path


def _tiny_pipeline() -> FluxFillPipeline:
    clip, t5 = toy_clip_tokenizer(WORDS, max_length=SEQUENCE_LENGTH), toy_t5_tokenizer(WORDS)
    return FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=_tiny_vae(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=SEQUENCE_LENGTH,
                bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id,
                pad_token_id=clip.pad_token_id,
            )
        ),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(t5), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
        ),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(
            in_channels=2 * 4 * LATENT_CHANNELS + 4 * SCALE_FACTOR**2,
            out_channels=4 * LATENT_CHANNELS,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            guidance_embeds=True,
            axes_dims_rope=(2, 2, 4),
        ),
    )


def _tiny_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        shift_factor=0.1159,
        scaling_factor=0.3611,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def stock_edit(pipeline: FluxFillPipeline) -> "numpy.ndarray":
    """One image by the stock pipeline, always the same edit: 1 x 32 x 32 x 3, from 0 to 1."""
    noise = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    mask = Image.new("L", (32, 32))
    mask.paste(255, (4, 4, 28, 28))
    pipeline.set_progress_bar_config(disable=True)
    images: numpy.ndarray = pipeline(
        prompt="a red star",
        image=Image.fromarray(noise),
        mask_image=mask,
        height=32,
        width=32,
        num_inference_steps=2,
        max_sequence_length=SEQUENCE_LENGTH,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    return images
