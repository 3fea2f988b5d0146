"""The sizes of a run's models, read from their config files or known by name, and the models made of shapes alone."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.flow.shift import Shift
from onereward.models.contract import CONTRACT_FILE, RELEASED, Contract, read_contract
from onereward.models.flux_fill import FillCondition, FluxFill, Text
from onereward.models.load import FLUX_FILL
from onereward.models.names import resolve
from onereward.models.qwen_pixels import PixelRules
from onereward.models.qwen_vl import QwenVLJudge
from onereward.plan.meter import shapes
from onereward.toy.judge_model import SPECIAL_TOKENS, toy_judge_tokenizer, toy_texts
from onereward.toy.tokenizers import toy_clip_tokenizer, toy_t5_tokenizer

PROMPT = "a red star"
"""What the rehearsed samples ask for; a longer prompt is a few more of the judge's hundreds of tokens."""

Config = Mapping[str, Any]

_FLUX_TRANSFORMER: Config = {
    "in_channels": 384,
    "out_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
_FLUX_VAE: Config = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "shift_factor": 0.1159,
    "scaling_factor": 0.3611,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_FLUX_CLIP: Config = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
}
_FLUX_T5: Config = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
_QWEN_VISION: Config = {
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "depth": 32,
    "num_heads": 16,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_QWEN_TEXT: Mapping[str, Config] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "vocab_size": 152064,
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
}
_TIED = "Qwen/Qwen2.5-VL-3B-Instruct"
"""Its output layer is its embedding."""


@dataclass(frozen=True, kw_only=True)
class EditorShapes:
    """The configs of an editor's parts as their `config.json` has them, and how it is asked."""

    transformer: Config
    vae: Config
    clip: Config
    t5: Config
    contract: Contract

    def build(self, dtype: torch.dtype) -> FluxFill:
        """The editor without numbers; its tokenizers are stand-ins."""
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15)
        with shapes(), _default(dtype):
            return FluxFill(
                transformer=FluxTransformer2DModel.from_config(dict(self.transformer)),
                vae=AutoencoderKL.from_config(dict(self.vae)),
                text_encoder=CLIPTextModel(CLIPTextConfig(**self.clip)),
                tokenizer=toy_clip_tokenizer([PROMPT], max_length=8),
                text_encoder_2=T5EncoderModel(T5Config(**self.t5)),
                tokenizer_2=toy_t5_tokenizer([PROMPT]),
                scheduler=scheduler,
                contract=self.contract,
                dtype=dtype,
            )

    def condition(self, batch: int, height: int, width: int, dtype: torch.dtype) -> FillCondition:
        """What `encode` would make of that many samples."""
        contract, latents = self.contract, 4 * self.vae["latent_channels"]
        tokens = height * width // (2 * 2 ** (len(self.vae["block_out_channels"]) - 1)) ** 2
        with shapes():
            return FillCondition(
                text=self._text(batch, dtype),
                negative=self._text(batch, dtype) if contract.true_cfg > 1 else None,
                known_BLC=torch.empty(batch, tokens, self.transformer["in_channels"] - latents, dtype=dtype),
                guidance_B=torch.empty(batch),
                true_cfg_B=torch.empty(batch),
                height=height,
                width=width,
            )

    def _text(self, batch: int, dtype: torch.dtype) -> Text:
        length, config = self.contract.max_sequence_length, self.transformer
        return Text(
            tokens_BTD=torch.empty(batch, length, config["joint_attention_dim"], dtype=dtype),
            pooled_BD=torch.empty(batch, config["pooled_projection_dim"], dtype=dtype),
        )

    def side(self, pixels: int | None) -> int:
        """The side of a square of about that area, by default of the images that the editor was made for."""
        unit = self.contract.size_multiple
        wanted = pixels**0.5 if pixels is not None else self.contract.native_size or 1024
        return max(unit, round(wanted / unit) * unit)


@dataclass(frozen=True, kw_only=True)
class JudgeShapes:
    """A judge's config, the precision it is saved in, its tokenizer and what it makes of pixels."""

    config: PreTrainedConfig
    saved: torch.dtype
    tokenizer: PreTrainedTokenizerBase
    processor: Qwen2VLImageProcessorPil

    def build(self, dtype: torch.dtype, max_pixels: int) -> QwenVLJudge:
        """The judge without numbers, frozen."""
        with shapes():
            model = AutoModelForImageTextToText.from_config(self.config, dtype=dtype, attn_implementation="sdpa")
            return QwenVLJudge(model, self.tokenizer, PixelRules.of(self.processor, max_pixels)).freeze()


@dataclass(frozen=True, kw_only=True)
class ModelShapes:
    """All models of a run; `held_out` is the judge that only looks on, if there is one."""

    editor: EditorShapes
    judge: JudgeShapes
    held_out: JudgeShapes | None = None


def editor_shapes(name: str) -> EditorShapes:
    """Of `toy`, a pipeline's folder, a transformer's (on FLUX.1-Fill), or a released FLUX Fill by its Hub name.

    Raises ValueError for a name that leads to no config.
    """
    folder, released = Path(resolve(name, "editor")), RELEASED.get(name.partition(":")[0])
    contract = read_contract(folder / CONTRACT_FILE) if (folder / CONTRACT_FILE).exists() else released
    if (folder / "model_index.json").exists():
        return EditorShapes(
            transformer=_read(folder / "transformer" / "config.json"),
            vae=_read(folder / "vae" / "config.json"),
            clip=_read(folder / "text_encoder" / "config.json"),
            t5=_read(folder / "text_encoder_2" / "config.json"),
            contract=contract or Contract(shift=Shift()),
        )
    lone = folder / "config.json"
    if released is None and not lone.exists() and not folder.is_file():
        raise ValueError(
            f"the sizes of the editor {name!r} are not known: expected toy, a folder, a transformer's file or one of "
            f"{', '.join(RELEASED)}"
        )
    return EditorShapes(
        transformer=_read(lone) if lone.exists() else _FLUX_TRANSFORMER,
        vae=_FLUX_VAE,
        clip=_FLUX_CLIP,
        t5=_FLUX_T5,
        contract=contract or RELEASED[FLUX_FILL],
    )


def judge_shapes(name: str) -> JudgeShapes:
    """Of `toy`, a judge's folder (also an adapter's), or a Qwen2.5-VL by its Hub name; ValueError for others."""
    path = resolve(name, "judge")
    adapter = Path(path, "adapter_config.json")
    if adapter.exists():
        return judge_shapes(str(_read(adapter)["base_model_name_or_path"]))
    if Path(path, "config.json").exists():
        config = AutoConfig.from_pretrained(path)
        return JudgeShapes(
            config=config,
            saved=config.dtype or torch.float32,
            tokenizer=AutoTokenizer.from_pretrained(path),
            processor=Qwen2VLImageProcessorPil.from_pretrained(path),
        )
    if name not in _QWEN_TEXT:
        raise ValueError(
            f"the sizes of the judge {name!r} are not known: expected toy, a folder or one of {', '.join(_QWEN_TEXT)}"
        )
    tokenizer = toy_judge_tokenizer(toy_texts())  # nearly as many tokens as the real one makes of a query
    return JudgeShapes(
        config=_qwen_config(name, tokenizer),
        saved=torch.bfloat16,
        tokenizer=tokenizer,
        processor=Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 3584 * 3584}),
    )


def _qwen_config(name: str, tokenizer: PreTrainedTokenizerBase) -> Qwen2_5_VLConfig:
    text = _QWEN_TEXT[name]
    token = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    return Qwen2_5_VLConfig(
        text_config={**text, "rms_norm_eps": 1e-6, "rope_parameters": rope},
        vision_config={**_QWEN_VISION, "out_hidden_size": text["hidden_size"]},
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
        tie_word_embeddings=name == _TIED,
    )


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _read(file: Path) -> Config:
    values: Config = json.loads(file.read_text(encoding="utf-8"))
    return values


def pixels_of(batch: int, channels: int, side: int) -> Tensor:
    """Square images or masks, float32."""
    with shapes():
        return torch.empty(batch, channels, side, side)
