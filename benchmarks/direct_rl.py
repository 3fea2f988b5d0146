"""Algorithm 1 written directly on stock FluxFillPipeline and stock Qwen2.5-VL: what the RL benchmarks measure against.

As a careful engineer would write it in a day: whole batches, no gradient where none is needed, the stock parts called
as their pipeline and their model card do. Three copies of the transformer; texts and masked images encoded at every
step; one judge forward a dimension and order, its backward at once, so that one of its graphs is in memory. Stock has
no differentiable preprocessing: `to_patches` is shared with our judge, and so are the random draws and `jittered`,
which makes the gradients comparable.

Shape legend: B samples, H W pixels, L latent tokens, C token channels.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy
import torch
from diffusers import FluxFillPipeline
from diffusers.pipelines.flux import pipeline_flux_fill
from peft import LoraConfig
from torch import Tensor, nn

from onereward.augment import jittered
from onereward.losses import Reward
from onereward.models.contract import Contract
from onereward.models.qwen_pixels import grid_thw, patches_of
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.rl import draw_jumps
from onereward.rl_terms import Key, RLConfig
from onereward.seeds import torch_generator
from onereward.store.images import triplet_tensors
from onereward.terms import DIMENSIONS, Dimension, Task, Triplet, dimensions_of

REFERENCE, ROLLOUT, GRADED, JUDGE, BACKWARD, OPTIMIZER = PHASES = (
    "reference rollout, texts and latents",
    "policy rollout",
    "graded step and decode",
    "judge forward",
    "backward",
    "clip, optimizer, average",
)
_LINEAR = (
    r"(single_)?transformer_blocks\.\d+\.(attn\.(to|add)_(q|k|v|out\.0|add_out|q_proj|k_proj|v_proj)"
    r"|ff(_context)?\.net\.(0\.proj|2)|proj_mlp|proj_out)"
)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Part of a global batch, all of one task and size: pictures and prompts, nothing encoded."""

    task: Task
    prompts: Sequence[str]
    keys: Sequence[Key]
    reference_keys: Sequence[Key]
    image_B3HW: Tensor
    mask_B1HW: Tensor

    @classmethod
    def of(
        cls, triplets: Sequence[Triplet], keys: Sequence[Key], reference_keys: Sequence[Key], device: torch.device
    ) -> "Samples":
        """The triplets, with the keys of their draws."""
        images, masks = zip(*map(triplet_tensors, triplets), strict=True)
        return cls(
            task=triplets[0].task,
            prompts=[triplet.prompt for triplet in triplets],
            keys=keys,
            reference_keys=reference_keys,
            image_B3HW=torch.stack(images).to(device),
            mask_B1HW=torch.stack(masks).to(device),
        )


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What FluxFillPipeline makes of samples before it denoises: arguments of the transformer, and the size."""

    arguments: dict[str, Tensor | None]
    known_BLC: Tensor
    height: int
    width: int


class DirectAlgorithm1:
    """Algorithm 1; the pipeline's transformer becomes the policy, every weight trained or (`lora_rank`) an adapter's.

    Of the judge only its stock model, tokenizer and limits on pixels are used. All parts compute where and in what
    precision they are; adapters are float32, their products in the transformer's bfloat16. `phase` is told what begins
    (`PHASES`). Gradient checkpointing is the caller's to enable, on the parts. Raises ValueError for a config that is
    not Algorithm 1's.
    """

    def __init__(
        self,
        pipeline: FluxFillPipeline,
        judge: QwenVLJudge,
        config: RLConfig,
        *,
        contract: Contract,
        learning_rate: float,
        weight_decay: float,
        clip: float,
        lora_rank: int = 0,
        phase: Callable[[str], None] = lambda name: None,
    ) -> None:
        others = config.dynamic, config.kl, config.flow_matching, config.graded_steps - 1
        if any(others) or config.reward is not Reward.PROBABILITY:
            raise ValueError(f"expected Algorithm 1 with one graded step and no loss but Eq. 5 and an anchor: {config}")
        self.pipeline, self.judge, self.config = pipeline, judge, config
        self.contract, self.clip, self.phase = contract, clip, phase
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, judge.model):
            part.requires_grad_(False)
        self.policy: Any = pipeline.transformer
        self.reference = copy.deepcopy(self.policy).requires_grad_(False).eval()  # line 1
        if lora_rank:
            _add_lora(self.policy, lora_rank)
        self.average = copy.deepcopy(self.policy).requires_grad_(False).eval()  # line 2
        self.trained = {name: weight for name, weight in self.policy.named_parameters() if weight.requires_grad}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=learning_rate, weight_decay=weight_decay)
        self._bfloat16 = bool(lora_rank) and self.policy.dtype == torch.bfloat16

    def update(self, parts: Iterable[Samples]) -> float:
        """One iteration on a global batch that comes in parts; returns its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = sum(self.accumulate(samples) for samples in parts)
        self.phase(OPTIMIZER)
        nn.utils.clip_grad_norm_(self.trained.values(), self.clip)
        self.optimizer.step()  # line 13
        averaged = dict(self.average.named_parameters())
        with torch.no_grad():
            for name, weight in self.trained.items():  # line 14
                averaged[name].lerp_(weight, 1 - self.config.decay)
        return loss

    def accumulate(self, samples: Samples) -> float:
        """Add the gradient of these samples' share of the loss to the policy's; returns that share."""
        config = self.config
        self.phase(REFERENCE)
        encoded = self._encode(samples)
        reference_B3HW = self._reference(samples, encoded)
        self.phase(ROLLOUT)
        latents_BLC, t_B = self._rollout(samples, encoded)
        self.phase(GRADED)
        x0_hat_BLC = latents_BLC - t_B[:, None, None] * self._velocity(self.policy, latents_BLC, t_B, encoded)  # line 8
        image_B3HW = self._decode(x0_hat_BLC, encoded)  # Eq. 4
        anchor = x0_hat_BLC.new_zeros(())
        if config.anchor:
            with torch.no_grad():
                velocity_BLC = self._velocity(self.reference, latents_BLC, t_B, encoded)
            change_BLC = x0_hat_BLC - (latents_BLC - t_B[:, None, None] * velocity_BLC)
            anchor = config.anchor * change_BLC.abs().mean((1, 2)).sum() / config.batch
        if config.paste_back:
            inside = samples.mask_B1HW > 0
            image_B3HW = torch.where(inside, image_B3HW, samples.image_B3HW)
            reference_B3HW = torch.where(inside, reference_B3HW, samples.image_B3HW)
        image_B3HW, reference_B3HW = jittered(
            image_B3HW, reference_B3HW, samples.keys, shift=config.shift, tone=config.tone
        )
        shown_B3HW, reference_B3HW = image_B3HW.detach().requires_grad_(), reference_B3HW.detach()
        loss = sum(
            self._ask(samples, dimension, shown_B3HW, reference_B3HW)
            for dimension in DIMENSIONS[samples.task]  # line 9
        )
        self.phase(BACKWARD)
        ends = [(image_B3HW, shown_B3HW.grad), *([(anchor, None)] if config.anchor else [])]
        torch.autograd.backward(*map(list, zip(*ends, strict=True)))
        return loss + anchor.item()

    def _ask(self, samples: Samples, dimension: Dimension, image_B3HW: Tensor, reference_B3HW: Tensor) -> float:
        """Eq. 5 in one dimension; its gradient goes to `image_B3HW`."""
        self.phase(JUDGE)
        criteria = [dimensions_of(samples.task, prompt) for prompt in samples.prompts]
        asked = [b for b, own in enumerate(criteria) if dimension in own]
        if not asked:
            return 0.0
        queries = [build_query(samples.task, dimension, samples.prompts[b]) for b in asked]  # line 10
        pair = image_B3HW[asked], reference_B3HW[asked]
        weight_B = torch.tensor([self.config.dimension_weights[dimension] / len(criteria[b]) for b in asked])
        prob_yes_B = self._log_odds(*pair, queries).sigmoid()  # line 11
        if self.config.both_orders:
            prob_yes_B = (prob_yes_B + 1 - self._log_odds(*reversed(pair), queries).sigmoid()) / 2
        hinge_B = (self.config.bound - prob_yes_B).clamp(min=0)
        loss: Tensor = (weight_B.to(hinge_B) * hinge_B).sum() / self.config.batch
        self.phase(BACKWARD)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.item()

    def _log_odds(self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[str]) -> Tensor:
        """log P(yes) - log P(no), `log_odds_B`: one stock forward."""
        judge, device = self.judge, self.judge.model.device
        images_N3HW = torch.stack([first_B3HW, second_B3HW], dim=1).flatten(0, 1)  # a text's two images together
        patches_ND, grids = patches_of(images_N3HW, judge.pixels)
        rows, columns = grids[0]
        texts = [_chat(judge, query).replace(_PAD, _PAD * (rows * columns)) for query in queries]
        tokens = judge.tokenizer(
            texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        ).to(device)
        logits_BV = judge.model(
            **tokens,
            mm_token_type_ids=(tokens["input_ids"] == judge.model.config.image_token_id).int(),
            pixel_values=patches_ND,
            image_grid_thw=grid_thw(grids, judge.pixels).to(device),
            logits_to_keep=1,
            use_cache=False,
        ).logits[:, -1]
        yes, no = judge.answer_ids
        log_odds_B: Tensor = logits_BV[:, yes].float() - logits_BV[:, no].float()
        return log_odds_B

    @torch.no_grad()
    def _encode(self, samples: Samples) -> Encoded:
        """As FluxFillPipeline before its loop, but with the mode of the VAE's posterior instead of a draw from it."""
        pipeline, size = self.pipeline, samples.image_B3HW.shape[-2:]
        height, width = size
        device, dtype = self.policy.device, pipeline.text_encoder_2.dtype
        prompts = [self.contract.prompt_for(samples.task, prompt) for prompt in samples.prompts]
        tokens_BTD, pooled_BD, text_ids = pipeline.encode_prompt(
            prompts, device=device, max_sequence_length=self.contract.max_sequence_length
        )
        mode = partial(pipeline_flux_fill.retrieve_latents, sample_mode="argmax")
        with mock.patch.object(pipeline_flux_fill, "retrieve_latents", mode):
            mask_BLC, masked_BLC = pipeline.prepare_mask_latents(
                samples.mask_B1HW,
                (samples.image_B3HW * (1 - samples.mask_B1HW)).to(pipeline.vae.dtype),
                len(prompts),
                pipeline.vae.config.latent_channels,
                1,
                height,
                width,
                dtype,
                device,
                None,
            )
        rows, columns = (side // (2 * pipeline.vae_scale_factor) for side in size)
        guidance_B = torch.full([len(prompts)], self.contract.guidance, device=device)
        return Encoded(
            arguments={
                "guidance": guidance_B if self.policy.config.guidance_embeds else None,
                "pooled_projections": pooled_BD,
                "encoder_hidden_states": tokens_BTD,
                "txt_ids": text_ids,
                "img_ids": pipeline._prepare_latent_image_ids(len(prompts), rows, columns, device, dtype),
            },
            known_BLC=torch.cat([masked_BLC, mask_BLC], dim=2),
            height=height,
            width=width,
        )

    @torch.no_grad()
    def _reference(self, samples: Samples, encoded: Encoded) -> Tensor:
        """Line 7: full denoising by the frozen start."""
        scheduler = self._scheduled(encoded, self.config.reference_steps)
        latents_BLC = self._noise(encoded, [(*key, "reference noise") for key in samples.reference_keys])
        for t in scheduler.timesteps:
            t_B = t.expand(len(latents_BLC)) / 1000
            velocity_BLC = self._velocity(self.reference, latents_BLC, t_B, encoded)
            latents_BLC = scheduler.step(velocity_BLC, t, latents_BLC, return_dict=False)[0]
        return self._decode(latents_BLC, encoded)

    @torch.no_grad()
    def _rollout(self, samples: Samples, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Line 8 without its graded step: each sample's latents at its own step, and that step's time."""
        scheduler = self._scheduled(encoded, self.config.policy_steps)
        latents_BLC = self._noise(encoded, [(*key, "policy noise") for key in samples.keys])
        steps_B = draw_jumps(samples.keys, scheduler.sigmas, self.config)[:, 0].to(latents_BLC.device)  # line 6
        kept_BLC = latents_BLC
        for step, t in enumerate(scheduler.timesteps[: int(steps_B.max())], start=1):
            t_B = t.expand(len(latents_BLC)) / 1000
            velocity_BLC = self._velocity(self.policy, latents_BLC, t_B, encoded)
            latents_BLC = scheduler.step(velocity_BLC, t, latents_BLC, return_dict=False)[0]
            kept_BLC = torch.where((steps_B == step)[:, None, None], latents_BLC, kept_BLC)
        return kept_BLC, scheduler.sigmas.to(steps_B.device)[steps_B]

    def _scheduled(self, encoded: Encoded, steps: int) -> Any:
        scheduler: Any = self.pipeline.scheduler
        mu = pipeline_flux_fill.calculate_shift(
            encoded.known_BLC.shape[1],
            scheduler.config.base_image_seq_len,
            scheduler.config.max_image_seq_len,
            scheduler.config.base_shift,
            scheduler.config.max_shift,
        )
        scheduler.set_timesteps(sigmas=numpy.linspace(1, 1 / steps, steps), mu=mu, device=self.policy.device)
        return scheduler

    def _noise(self, encoded: Encoded, keys: Sequence[Key]) -> Tensor:
        factor, channels = self.pipeline.vae_scale_factor, self.pipeline.vae.config.latent_channels
        height, width = encoded.height // factor, encoded.width // factor
        drawn = torch.stack([torch.randn(channels, height, width, generator=torch_generator(*key)) for key in keys])
        noise_BLC: Tensor = self.pipeline._pack_latents(drawn, len(keys), channels, height, width)
        return noise_BLC.to(encoded.known_BLC)

    def _velocity(self, transformer: nn.Module, latents_BLC: Tensor, t_B: Tensor, encoded: Encoded) -> Tensor:
        with torch.autocast(latents_BLC.device.type, torch.bfloat16, enabled=self._bfloat16):
            velocity_BLC: Tensor = transformer(
                hidden_states=torch.cat([latents_BLC, encoded.known_BLC], dim=2),
                timestep=t_B.to(latents_BLC.dtype),
                **encoded.arguments,
                return_dict=False,
            )[0]
        return velocity_BLC

    def _decode(self, latents_BLC: Tensor, encoded: Encoded) -> Tensor:
        pipeline, vae = self.pipeline, self.pipeline.vae
        latents = pipeline._unpack_latents(latents_BLC, encoded.height, encoded.width, pipeline.vae_scale_factor)
        latents = latents / vae.config.scaling_factor + vae.config.shift_factor
        image_B3HW: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return image_B3HW.float()


@torch.no_grad()
def move_off(policy: nn.Module) -> None:
    """Two percent of noise on every weight: an anchor has no gradient at the start, and close to it a chance sign."""
    generator = torch.Generator().manual_seed(0)
    for weight in policy.parameters():
        weight.mul_(1 + 0.02 * torch.randn(weight.shape, generator=generator))


_PAD = "<|image_pad|>"


def _chat(judge: QwenVLJudge, query: str) -> str:
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": query}]
    text: str = judge.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return text


def _add_lora(transformer: Any, rank: int) -> None:
    """As diffusers' training scripts: an adapter in float32 on frozen weights."""
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=_LINEAR))
    for weight in transformer.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
