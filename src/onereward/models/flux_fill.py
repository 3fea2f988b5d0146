"""FLUX.1-Fill as the algorithm's editor: the real diffusers and transformers parts, any size of them.

Shape legend: B batch, H W pixels, h w latent pixels, c latent channels, L latent tokens (2x2 latent pixels each),
C token channels, T text tokens, D text width. The transformer sees, token by token, the noisy latents, the latents of
the image with the hole blanked, and the mask itself, in that order.
"""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FirstBlockCacheConfig,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
)
from einops import rearrange
from torch import Generator, Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from onereward.flow.sample import denoise
from onereward.flow.schedule import shifted_times
from onereward.flow.shift import Shift
from onereward.models.base import Transformer
from onereward.models.contract import Contract
from onereward.seeds import torch_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Text:
    """One batch of encoded prompts: T5's tokens and CLIP's pooled vector."""

    tokens_BTD: Tensor
    pooled_BD: Tensor

    def select(self, indices: Tensor) -> "Text":
        return Text(tokens_BTD=self.tokens_BTD[indices], pooled_BD=self.pooled_BD[indices])

    @staticmethod
    def concat(texts: Sequence["Text"]) -> "Text":
        return Text(
            tokens_BTD=torch.cat([text.tokens_BTD for text in texts]),
            pooled_BD=torch.cat([text.pooled_BD for text in texts]),
        )

    def to(self, device: torch.device) -> "Text":
        return Text(tokens_BTD=self.tokens_BTD.to(device), pooled_BD=self.pooled_BD.to(device))


@dataclass(frozen=True, kw_only=True)
class FillCondition:
    """What the transformer is told beside the noisy latents: independent of the policy, so it can be kept.

    `known_BLC` is the channels appended to the latents: the blanked image's latents, then the mask.
    `negative` is there if any sample's `true_cfg_B` is above 1. Height and width are in pixels.
    """

    text: Text
    negative: Text | None
    known_BLC: Tensor
    guidance_B: Tensor
    true_cfg_B: Tensor
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.known_BLC)

    def select(self, indices: Tensor | Sequence[int]) -> "FillCondition":
        """The samples at `indices` (repeats allowed), batch first as before."""
        indices = torch.as_tensor(indices, device=self.known_BLC.device)
        return replace(
            self,
            text=self.text.select(indices),
            negative=self.negative and self.negative.select(indices),
            known_BLC=self.known_BLC[indices],
            guidance_B=self.guidance_B[indices],
            true_cfg_B=self.true_cfg_B[indices],
        )

    @staticmethod
    def concat(conditions: Sequence["FillCondition"]) -> "FillCondition":
        """One batch of several; raises ValueError if their sizes differ or only some have a negative prompt."""
        shapes = {(c.height, c.width, c.negative is None) for c in conditions}
        if len(shapes) != 1:
            raise ValueError(f"conditions differ in (height, width, no negative prompt): {sorted(shapes)}")
        negatives = [c.negative for c in conditions if c.negative is not None]
        return replace(
            conditions[0],
            text=Text.concat([c.text for c in conditions]),
            negative=Text.concat(negatives) if negatives else None,
            known_BLC=torch.cat([c.known_BLC for c in conditions]),
            guidance_B=torch.cat([c.guidance_B for c in conditions]),
            true_cfg_B=torch.cat([c.true_cfg_B for c in conditions]),
        )

    def to(self, device: torch.device) -> "FillCondition":
        return replace(
            self,
            text=self.text.to(device),
            negative=self.negative and self.negative.to(device),
            known_BLC=self.known_BLC.to(device),
            guidance_B=self.guidance_B.to(device),
            true_cfg_B=self.true_cfg_B.to(device),
        )


class FluxFill:
    """A FLUX Fill editor (an `Editor`) of ordinary parts; the contract gives what a call leaves open.

    The parts are put in eval mode and, the transformer apart, frozen. `dtype` is what texts, draws and the
    transformer's input have (default: as T5), `device` where parts compute that do not stay there (default: where the
    VAE lies), `cache` the threshold of `Execution.cache` for `repaint`. A shift in the contract wins over the
    scheduler's. Raises ValueError for a schedule that FLUX editors do not use.
    """

    def __init__(
        self,
        *,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        text_encoder_2: T5EncoderModel,
        tokenizer_2: T5Tokenizer,
        scheduler: FlowMatchEulerDiscreteScheduler,
        contract: Contract,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        cache: float | None = None,
    ) -> None:
        self.transformer: nn.Module = transformer.eval()
        self.vae = vae.eval().requires_grad_(False)
        encoders = [encoder.eval().requires_grad_(False) for encoder in (text_encoder, text_encoder_2)]
        self._text_encoders: list[Any] | None = encoders
        self.tokenizer = tokenizer
        self.tokenizer_2 = tokenizer_2
        self.shift = contract.shift or shift_of(scheduler)
        self.scheduler = with_shift(scheduler, self.shift)
        self.contract = replace(contract, shift=self.shift)
        self.cache = cache
        self.vae_scale_factor: int = 2 ** (len(vae.config.block_out_channels) - 1)
        self._embeds_guidance: bool = transformer.config.guidance_embeds
        self._dtype: torch.dtype = dtype or text_encoder_2.dtype
        self._device = device
        self._kept_texts: dict[str, Text] = {}

    @property
    def device(self) -> torch.device:
        """Where it computes, and where what it returns lies."""
        device: torch.device = self._device or next(self.vae.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What texts, draws and the transformer's input have."""
        return self._dtype

    @property
    def has_text(self) -> bool:
        """Whether its text encoders have not been freed."""
        return self._text_encoders is not None

    @property
    def text_encoder(self) -> CLIPTextModel:
        return self._text_encoder(0)

    @property
    def text_encoder_2(self) -> T5EncoderModel:
        return self._text_encoder(1)

    @torch.no_grad()
    def keep_texts(self, prompts: Sequence[str]) -> None:
        """Encode the prompts, each alone, and keep them in the computer's memory: later they need no text encoder."""
        for prompt in prompts:
            if prompt not in self._kept_texts:
                self._kept_texts[prompt] = self._encode_text([prompt]).to(torch.device("cpu"))

    def free_text_encoders(self) -> None:
        """Let the text encoders' memory go; from then on a prompt that was not kept is a ValueError."""
        self._text_encoders = None
        hook = getattr(self.transformer, "_hf_hook", None)
        if hook is not None:  # offloading whole models chains them: this one's hook holds T5
            hook.prev_module_hook = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def encode(
        self,
        image_B3HW: Tensor,
        mask_B1HW: Tensor,
        prompts: Sequence[str],
        *,
        guidance: float | Sequence[float] | None = None,
        true_cfg: float | Sequence[float] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        generators: Sequence[Generator] | None = None,
    ) -> FillCondition:
        """Everything about (I_src, M, P) that does not depend on the policy, without gradient.

        `guidance`, `true_cfg` and `negative_prompt` are one value or one a sample; what is None comes from the
        contract. The blanked image's latents are the mode of the VAE's posterior, or drawn from it by `generators` (one
        a sample) as the stock pipeline does. Raises ValueError for shapes that do not belong together.
        """
        self._check(image_B3HW, mask_B1HW, len(prompts))
        batch, (height, width) = len(prompts), image_B3HW.shape[-2:]
        true_cfg_B = self._per_sample(self.contract.true_cfg if true_cfg is None else true_cfg, batch)
        negative = None
        if bool((true_cfg_B > 1).any()):
            negative = self._negative(negative_prompt, batch)
        return FillCondition(
            text=self.text(prompts),
            negative=negative,
            known_BLC=self.known(image_B3HW, mask_B1HW, generators),
            guidance_B=self._per_sample(self.contract.guidance if guidance is None else guidance, batch),
            true_cfg_B=true_cfg_B,
            height=height,
            width=width,
        )

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Text:
        """The part of `encode` that reads: the prompts encoded, or as kept if all of them are."""
        unknown = [prompt for prompt in prompts if prompt not in self._kept_texts]
        if not unknown:
            return Text.concat([self._kept_texts[prompt] for prompt in prompts]).to(self.device)
        if self._text_encoders is None:
            raise ValueError(f"the text encoders were freed, and the prompt {unknown[0]!r} was not kept before")
        return self._encode_text(prompts)

    @torch.no_grad()
    def known(self, image_B3HW: Tensor, mask_B1HW: Tensor, generators: Sequence[Generator] | None = None) -> Tensor:
        """The part of `encode` that sees the picture: `known_BLC` of a condition."""
        self._check(image_B3HW, mask_B1HW, len(image_B3HW))
        image, mask = image_B3HW.to(self.device), mask_B1HW.to(self.device, torch.float32)
        posterior = self.vae.encode((image * (1 - mask)).to(self.vae.dtype)).latent_dist
        latents = posterior.mode() if generators is None else posterior.sample(list(generators))
        latents = self._normalised(latents)
        f = self.vae_scale_factor
        mask_Bchw = rearrange(mask, "B 1 (h fh) (w fw) -> B (fh fw) h w", fh=f, fw=f)
        return torch.cat([_pack(latents), _pack(mask_Bchw)], dim=2).to(self._dtype)

    def noise(self, condition: FillCondition, sample_keys: Sequence[tuple[int | str, ...]]) -> Tensor:
        """Initial latents `noise_BLC`, float32, sample b drawn from `torch_generator(*sample_keys[b])` alone."""
        shape = self._latent_shape(condition.height, condition.width)
        drawn = [torch.randn(shape, generator=torch_generator(*key)) for key in sample_keys]
        return _pack(torch.stack(drawn)).to(self.device)

    def times(self, condition: FillCondition, steps: int) -> Tensor:
        """The sampler's times, `steps + 1` numbers from 1 down to 0, shifted for this resolution."""
        return shifted_times(steps, condition.known_BLC.shape[1], self.shift).to(self.device)

    def velocity(
        self, latents_BLC: Tensor, t_B: Tensor, condition: FillCondition, *, transformer: Transformer | None = None
    ) -> Tensor:
        """velocity_BLC at time t (one a sample), float32 (float64 if the model is); true CFG doubles the batch."""
        if transformer is None:
            transformer = self.transformer
        text, negative = condition.text, condition.negative
        if negative is None:
            return self._predict(transformer, latents_BLC, t_B, condition, text)
        doubled = condition.select([*range(len(condition))] * 2)
        both = Text.concat([negative, text])
        velocity = self._predict(transformer, torch.cat([latents_BLC] * 2), torch.cat([t_B] * 2), doubled, both)
        negative_BLC, positive_BLC = velocity.chunk(2)
        return negative_BLC + condition.true_cfg_B[:, None, None] * (positive_BLC - negative_BLC)

    def decode(self, latents_BLC: Tensor, condition: FillCondition) -> Tensor:
        """image_B3HW in [-1, 1], float32 (float64 if the VAE is), not clamped; differentiable."""
        latents_BchW = _unpack(latents_BLC, condition.height // self.vae_scale_factor // 2)
        scaled = latents_BchW / self.vae.config.scaling_factor + self.vae.config.shift_factor
        image_B3HW: Tensor = self.vae.decode(scaled.to(self.vae.dtype), return_dict=False)[0]
        return _precise(image_B3HW)

    @torch.no_grad()
    def latents(self, image_B3HW: Tensor) -> Tensor:
        """latents_BLC of images in [-1, 1] (the posterior's mode), float32 (float64 if the VAE is)."""
        posterior = self.vae.encode(image_B3HW.to(self.device, self.vae.dtype)).latent_dist
        return _precise(_pack(self._normalised(posterior.mode())))

    @torch.no_grad()
    def repaint(
        self,
        image_B3HW: Tensor,
        mask_B1HW: Tensor,
        prompts: Sequence[str],
        generators: Sequence[Generator],
        *,
        steps: int | None = None,
        guidance: float | Sequence[float] | None = None,
        true_cfg: float | Sequence[float] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        noise_scale: float | Sequence[float] = 1.0,
        on_step: Callable[[], object] | None = None,
    ) -> Tensor:
        """Edited image_B3HW in [-1, 1], equal to `FluxFillPipeline` with the same (CPU) generators, one a sample.

        `noise_scale` multiplies the initial noise (1 in the stock pipeline). Stock draws, in this order, the source
        image's posterior, the noise, the blanked image's posterior. The first is multiplied by 1 - t = 0 there: here
        only its draw is made. `on_step` is called after each of the steps.
        """
        shape = self._latent_shape(*image_B3HW.shape[-2:])
        draws = [[torch.randn(shape, generator=g, dtype=self._dtype) for _ in "12"] for g in generators]
        noise_BLC = _precise(_pack(torch.stack([noise for _, noise in draws])).to(self.device))
        noise_BLC = noise_BLC * self._per_sample(noise_scale, len(prompts))[:, None, None]
        condition = self.encode(
            image_B3HW,
            mask_B1HW,
            prompts,
            guidance=guidance,
            true_cfg=true_cfg,
            negative_prompt=negative_prompt,
            generators=generators,
        )
        times = self.times(condition, self.contract.steps if steps is None else steps)

        def velocity(latents_BLC: Tensor, t_B: Tensor) -> Tensor:
            velocity_BLC = self.velocity(latents_BLC, t_B, condition)
            if on_step is not None:
                on_step()
            return velocity_BLC

        with self.cached(self.cache):
            latents_BLC = denoise(velocity, noise_BLC, times)
        return self.decode(latents_BLC, condition)

    @contextmanager
    def cached(self, threshold: float | None) -> Iterator[None]:
        """diffusers' first-block cache, if asked for: on for one batch of images, so that no state outlives it."""
        if not threshold:
            yield
            return
        transformer: Any = self.transformer
        transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
        try:
            with transformer.cache_context("repaint"):
                yield
        finally:
            transformer.disable_cache()

    def _predict(
        self, transformer: Transformer, latents_BLC: Tensor, t_B: Tensor, condition: FillCondition, text: Text
    ) -> Tensor:
        dtype = text.tokens_BTD.dtype
        prediction: Tensor = transformer(
            hidden_states=torch.cat([latents_BLC.to(dtype), condition.known_BLC], dim=2),
            timestep=(t_B * 1000).to(dtype) / 1000,  # rounded as in the pipeline
            guidance=condition.guidance_B if self._embeds_guidance else None,
            pooled_projections=text.pooled_BD,
            encoder_hidden_states=text.tokens_BTD,
            txt_ids=torch.zeros(text.tokens_BTD.shape[1], 3, dtype=dtype, device=latents_BLC.device),
            img_ids=self._token_positions(condition).to(latents_BLC.device, dtype),
            return_dict=False,
        )[0]
        return _precise(prediction)

    def _token_positions(self, condition: FillCondition) -> Tensor:
        """(0, row, column) of each latent token, L x 3."""
        pixels = 2 * self.vae_scale_factor
        rows, columns = torch.arange(condition.height // pixels), torch.arange(condition.width // pixels)
        return torch.cartesian_prod(torch.zeros(1, dtype=torch.long), rows, columns)

    def _negative(self, asked: str | Sequence[str] | None, batch: int) -> Text:
        """The prompts to steer away from, each encoded once."""
        refused = self.contract.negative_prompt if asked is None else asked
        listed = [refused] * batch if isinstance(refused, str) else list(refused)
        if len(listed) != batch:
            raise ValueError(f"got {len(listed)} negative prompts for {batch} samples: give one, or one a sample")
        different = list(dict.fromkeys(listed))
        which = torch.tensor([different.index(prompt) for prompt in listed], device=self.device)
        return self.text(different).select(which)

    def _text_encoder(self, index: int) -> Any:
        if self._text_encoders is None:
            raise ValueError("the text encoders were freed: load the editor again")
        return self._text_encoders[index]

    def _encode_text(self, prompts: Sequence[str]) -> Text:
        clip = self.text_encoder(self._token_ids(self.tokenizer, prompts, self.tokenizer.model_max_length))
        length = self.contract.max_sequence_length
        for prompt in prompts:
            if len(self.tokenizer_2(prompt).input_ids) > length:
                _warn_of_cut(length, prompt)
        t5 = self.text_encoder_2(self._token_ids(self.tokenizer_2, prompts, length))
        return Text(tokens_BTD=t5[0].to(self._dtype), pooled_BD=clip.pooler_output.to(self._dtype))

    def _token_ids(self, tokenizer: CLIPTokenizer | T5Tokenizer, prompts: Sequence[str], length: int) -> Tensor:
        """FLUX pads both to a fixed length and masks nothing."""
        tokens = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        ids_BT: Tensor = tokens.input_ids
        return ids_BT.to(self.device)

    def _normalised(self, latents_BchW: Tensor) -> Tensor:
        """The VAE's latents as the transformer knows them."""
        normalised: Tensor = (latents_BchW - self.vae.config.shift_factor) * self.vae.config.scaling_factor
        return normalised

    def _latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return self.vae.config.latent_channels, height // self.vae_scale_factor, width // self.vae_scale_factor

    def _per_sample(self, values: float | Sequence[float], batch: int) -> Tensor:
        listed = [float(values)] * batch if isinstance(values, int | float) else list(values)
        if len(listed) != batch:
            raise ValueError(f"got {len(listed)} values for {batch} samples: give one number or one a sample")
        return torch.tensor(listed, dtype=torch.float32, device=self.device)

    def _check(self, image_B3HW: Tensor, mask_B1HW: Tensor, batch: int) -> None:
        (height, width), multiple = image_B3HW.shape[-2:], 2 * self.vae_scale_factor
        if image_B3HW.shape != (batch, 3, height, width) or mask_B1HW.shape != (batch, 1, height, width):
            got = f"image {tuple(image_B3HW.shape)} and mask {tuple(mask_B1HW.shape)}"
            raise ValueError(f"got {got} for {batch} prompts, expected (B, 3, H, W) and (B, 1, H, W)")
        if height % multiple or width % multiple:
            raise ValueError(f"got an image of {height}x{width}, expected multiples of {multiple}: resize or pad it")


def shift_of(scheduler: FlowMatchEulerDiscreteScheduler) -> Shift:
    """The scheduler's resolution shift; raises ValueError for a schedule that FLUX editors do not use."""
    config = scheduler.config
    others = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "shift_terminal", "invert_sigmas")
    plain = config.use_dynamic_shifting and config.time_shift_type == "exponential"
    if not plain or config.stochastic_sampling or any(config.get(name) for name in others):
        raise ValueError(f"expected FLUX's scheduler (exponential dynamic shifting, nothing else), got {dict(config)}")
    return Shift(
        base_tokens=config.base_image_seq_len,
        max_tokens=config.max_image_seq_len,
        base_mu=config.base_shift,
        max_mu=config.max_shift,
    )


def with_shift(scheduler: FlowMatchEulerDiscreteScheduler, shift: Shift) -> FlowMatchEulerDiscreteScheduler:
    """The scheduler itself if its shift is that, else one like it with that shift; ValueError as `shift_of`."""
    if shift_of(scheduler) == shift:
        return scheduler
    return FlowMatchEulerDiscreteScheduler.from_config(
        scheduler.config,
        base_image_seq_len=shift.base_tokens,
        max_image_seq_len=shift.max_tokens,
        base_shift=shift.base_mu,
        max_shift=shift.max_mu,
    )


@lru_cache(1024)
def _warn_of_cut(length: int, prompt: str) -> None:
    """Once a prompt, which trainings encode again and again."""
    logger.warning("the prompt is cut after %d tokens: %s", length, prompt)


def _precise(tensor: Tensor) -> Tensor:
    """float32, or float64 if it is that already."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _pack(latents_Bchw: Tensor) -> Tensor:
    """2x2 latent pixels to one token."""
    return rearrange(latents_Bchw, "B c (h ph) (w pw) -> B (h w) (c ph pw)", ph=2, pw=2)


def _unpack(latents_BLC: Tensor, rows: int) -> Tensor:
    return rearrange(latents_BLC, "B (h w) (c ph pw) -> B c (h ph) (w pw)", h=rows, ph=2, pw=2)
