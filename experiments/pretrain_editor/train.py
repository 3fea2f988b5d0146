"""Pretrain the toy editor: flow matching of FluxTransformer2DModel in Fill form on endless toy scenes.

    OMP_NUM_THREADS=1 python experiments/pretrain_editor/train.py --vae work/vae --folder work/editor --minutes 60

Run again with the same --folder to go on from its checkpoint; `--weights` begins a new folder with the weights of an
exported editor. `--fall` lets the learning rate fall linearly to zero.

`--calm SCALE` is the last leg, a reflow: the editor as it stands makes an image from SCALE times the noise, with true
CFG at a random scale, and the trained copy learns to go from the whole noise to that image in a straight line, with
that scale as its embedded guidance (as FLUX.1-dev is distilled). So it keeps to the likelier images, needs few steps,
and true CFG costs it nothing.

Under `torchrun --nproc-per-node 2` each process brings a batch of its own and the gradients are averaged. CLIP and T5
text encoders are trained with the transformer. Latents are normalised as FLUX's: (z - shift) * scale. Time: t = 1 is
noise, velocity = noise - x_0.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, FluxFillPipeline
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from onereward.flow.sample import denoise
from onereward.flow.schedule import shifted_times
from onereward.models.contract import save_contract
from onereward.seeds import numpy_generator
from onereward.terms import Task
from onereward.toy.editor_model import (
    CONTRACT,
    TEXT_LENGTH,
    build_scheduler,
    build_text_encoders,
    build_tokenizers,
    build_transformer,
)
from onereward.toy.scenes import make_scene

TASKS = {Task.FILL: 0.33, Task.EXTEND: 0.36, Task.REMOVE: 0.22, Task.TEXT: 0.09}
FIRST_INDEX = 1_000_000  # pretraining scenes lie beyond every index that the demo draws
REMOVE_NOISE = 0.06  # share of removal targets that keep the object: real editors have this fault
PROMPT_DROP = 0.1
MAX_GUIDANCE = 4.0
CALM_STEPS = 5
OUTSIDE_WEIGHT = 0.2
BUFFER = 60_000


_stock_attention = functional.scaled_dot_product_attention


def _attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """In float32 under autocast: on a CPU the backward pass of bf16 attention is six times slower."""
    with torch.autocast("cpu", enabled=False):
        return _stock_attention(query.float(), key.float(), value.float(), **options).to(query.dtype)


functional.scaled_dot_product_attention = _attention


class Editor(nn.Module):
    """The trained parts, so that one optimizer, one average and one checkpoint hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.clip_tokenizer, self.t5_tokenizer = build_tokenizers()
        self.clip, self.t5 = build_text_encoders(self.clip_tokenizer, self.t5_tokenizer)
        self.transformer = build_transformer()
        self.register_buffer("text_ids", torch.zeros(TEXT_LENGTH, 3), persistent=False)
        rows = torch.arange(8).repeat_interleave(8)
        image_ids = torch.stack([torch.zeros(64, dtype=torch.long), rows, torch.arange(8).repeat(8)], 1).float()
        self.register_buffer("image_ids", image_ids, persistent=False)

    @classmethod
    def load(cls, folder: Path) -> "Editor":
        """The weights of an exported editor."""
        model, exported = cls(), FluxFillPipeline.from_pretrained(folder)
        model.transformer.load_state_dict(exported.transformer.state_dict())
        model.clip.load_state_dict(exported.text_encoder.state_dict())
        model.t5.load_state_dict(exported.text_encoder_2.state_dict())
        return model

    def tokens(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        options = {"padding": "max_length", "max_length": TEXT_LENGTH, "truncation": True, "return_tensors": "pt"}
        return self.clip_tokenizer(prompts, **options).input_ids, self.t5_tokenizer(prompts, **options).input_ids

    def forward(self, latents: Tensor, t: Tensor, cond: Tensor, ids: tuple[Tensor, Tensor], guidance: Tensor) -> Tensor:
        pooled = self.clip(ids[0]).pooler_output
        embeds = self.t5(ids[1])[0]
        return self.transformer(
            hidden_states=torch.cat([latents, cond], 2),
            timestep=t,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=self.text_ids,
            img_ids=self.image_ids,
            return_dict=False,
        )[0]


def pack(x: Tensor) -> Tensor:
    return rearrange(x, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def pack_mask(mask_BHW: Tensor) -> Tensor:
    """8x8 unshuffle in FLUX, 4x4 here, then 2x2 packing."""
    return pack(rearrange(mask_BHW, "b (h p) (w q) -> b (p q) h w", p=4, q=4))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step learns from: the way from `noise` to `target` under `cond`, the prompts and the guidance."""

    target: Tensor
    noise: Tensor
    masked: Tensor
    mask: Tensor
    guidance: Tensor
    prompts: list[str]

    @property
    def cond(self) -> Tensor:
        return torch.cat([self.masked, pack_mask(self.mask)], 2)

    @property
    def inside(self) -> Tensor:
        """1 for every token of which any pixel is masked."""
        return (rearrange(self.mask, "b (h p) (w q) -> b (h w) (p q)", p=8, q=8).amax(2) > 0).float()


class Scenes:
    """Endless encoded training scenes, some without their prompt (true CFG needs that)."""

    paired = False  # a scene goes with any noise

    def __init__(self, vae: AutoencoderKL, first: int) -> None:
        self.vae, self.next = vae, first

    @torch.no_grad()
    def draw(self, count: int) -> Batch:
        images, masks, prompts = [], [], []
        for _ in range(count):
            rng = numpy_generator("pretrain-editor", self.next)
            task = rng.choice(list(TASKS), p=list(TASKS.values()))
            scene = make_scene("train", self.next, Task(task))
            keeps = scene.task is Task.REMOVE and rng.random() < REMOVE_NOISE
            images += [scene.source_HW3 if keeps else scene.truth_HW3, scene.hole_HW3]
            masks.append(scene.mask_HW)
            prompts.append("" if rng.random() < PROMPT_DROP else scene.prompt)
            self.next += 1
        mask = torch.from_numpy(np.stack(masks))
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        x[1::2] *= ~mask[:, None]  # the hole is exactly 0 in [-1, 1]
        z = self.vae.encode(x).latent_dist.mode()
        z = pack((z - self.vae.config.shift_factor) * self.vae.config.scaling_factor)
        return Batch(
            target=z[0::2],
            noise=torch.randn(z[0::2].shape),
            masked=z[1::2],
            mask=mask.float(),
            guidance=1 + (MAX_GUIDANCE - 1) * torch.rand(count),
            prompts=prompts,
        )


class CalmScenes:
    """The same scenes with the teacher's image in the hole, made from `scale` times the noise.

    Half of them at guidance 1, the others with true CFG at the scale that the batch says.
    """

    paired = True  # an image goes with the noise that it was made from

    def __init__(self, scenes: Scenes, teacher: Editor, scale: float) -> None:
        self.scenes, self.teacher, self.scale = scenes, teacher, scale

    @torch.no_grad()
    def draw(self, count: int) -> Batch:
        batch = self.scenes.draw(count)
        plain = count // 2
        batch.guidance[:plain] = 1
        ids = self.teacher.tokens([*batch.prompts, *[""] * (count - plain)])
        cond = torch.cat([batch.cond, batch.cond[plain:]])
        ones = torch.ones(len(cond))

        def velocity(latents: Tensor, t: Tensor) -> Tensor:
            twice = torch.cat([latents, latents[plain:]]), torch.cat([t, t[plain:]])
            with torch.autocast("cpu", torch.bfloat16):
                both = self.teacher(*twice, cond, ids, ones).float()
            asked, without = both[:count], both[count:]
            asked[plain:] += (batch.guidance[plain:, None, None] - 1) * (asked[plain:] - without)
            return asked

        made = denoise(velocity, self.scale * batch.noise, shifted_times(CALM_STEPS, 64))
        inside = batch.inside[..., None]
        return replace(batch, target=inside * made + (1 - inside) * batch.target)


class Buffer:
    """A ring of drawn samples, each met several times; every batch brings some fresh ones."""

    def __init__(self, source: Scenes | CalmScenes) -> None:
        self.source, self.size, self.where = source, 0, 0
        self.target = torch.zeros(BUFFER, 64, 32, dtype=torch.float16)
        self.noise = torch.zeros(BUFFER, 64, 32, dtype=torch.float16)
        self.masked = torch.zeros(BUFFER, 64, 32, dtype=torch.float16)
        self.mask = torch.zeros(BUFFER, 64, 64, dtype=torch.bool)
        self.guidance = torch.zeros(BUFFER)
        self.prompts: list[str] = [""] * BUFFER

    def add(self, count: int) -> Tensor:
        """The rows of the ring that `count` fresh samples have taken."""
        drawn = self.source.draw(count)
        rows = (self.where + torch.arange(count)) % BUFFER
        self.target[rows], self.noise[rows] = drawn.target.half(), drawn.noise.half()
        self.masked[rows], self.mask[rows] = drawn.masked.half(), drawn.mask.bool()
        self.guidance[rows] = drawn.guidance
        for row, prompt in zip(rows.tolist(), drawn.prompts, strict=True):
            self.prompts[row] = prompt
        self.where = (self.where + count) % BUFFER
        self.size = min(BUFFER, self.size + count)
        return rows

    def batch(self, fresh: int, size: int) -> Batch:
        rows = torch.cat([self.add(fresh), torch.randint(self.size, (size - fresh,))])
        noise = self.noise[rows].float()
        return Batch(
            target=self.target[rows].float(),
            noise=noise if self.source.paired else torch.randn(noise.shape),
            masked=self.masked[rows].float(),
            mask=self.mask[rows].float(),
            guidance=self.guidance[rows],
            prompts=[self.prompts[row] for row in rows.tolist()],
        )


def loss_of(model: Editor, batch: Batch, bf16: bool) -> Tensor:
    """Flow matching at one random time a sample."""
    t = torch.sigmoid(torch.randn(len(batch.prompts)) * 1.1 + 0.3)
    t = torch.where(torch.rand(len(t)) < 0.2, torch.rand(len(t)), t)
    noisy = (1 - t[:, None, None]) * batch.target + t[:, None, None] * batch.noise
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        velocity = model(noisy, t, batch.cond, model.tokens(batch.prompts), batch.guidance)
    weight = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * batch.inside
    error = (velocity.float() - (batch.noise - batch.target)).square().mean(2)
    return (weight * error).sum() / weight.sum()


def optimizers(model: Editor, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "transformer_blocks" in n and "norm" not in n]
    chosen = {id(p) for p in matrices} if muon else set()
    rest = [p for p in model.parameters() if id(p) not in chosen]
    out: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    ]
    if muon:
        out.append(torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return out


def average_gradients(model: Editor) -> None:
    """Over all processes, in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def export(model: Editor, vae: AutoencoderKL, average: dict[str, Tensor], folder: Path) -> None:
    """An ordinary FluxFillPipeline folder with the averaged weights."""
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(average)
    FluxFillPipeline(
        scheduler=build_scheduler(),
        vae=vae,
        text_encoder=model.clip,
        tokenizer=model.clip_tokenizer,
        text_encoder_2=model.t5,
        tokenizer_2=model.t5_tokenizer,
        transformer=model.transformer,
    ).save_pretrained(folder)
    save_contract(folder, CONTRACT)
    for file in folder.glob("*/config.json"):  # a part says where it was loaded from: nobody else has that path
        values = json.loads(file.read_text())
        values.pop("_name_or_path", None)
        file.write_text(json.dumps(values, indent=2) + "\n")
    model.load_state_dict(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--fresh", type=int, default=5)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--muon", action="store_true")
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--compile", action="store_true", help="15 % faster steps after a minute's compilation")
    parser.add_argument("--weights", type=Path, help="an exported editor's folder")
    parser.add_argument("--fall", action="store_true", help="the rate falls to zero over these minutes")
    parser.add_argument("--calm", type=float, help="scale of the noise that the teacher starts from, with --fall")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    if "WORLD_SIZE" in os.environ:
        dist.init_process_group("gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    model = Editor() if args.weights is None else Editor.load(args.weights)
    vae = AutoencoderKL.from_pretrained(args.vae).eval()
    if args.compile:
        model.transformer.compile()
    optims = optimizers(model, args.rate, args.muon)
    average = {k: v.clone() for k, v in model.state_dict().items()}
    step, spent, first = 0, 0.0, FIRST_INDEX + args.seed * 100_000_000
    args.folder.mkdir(parents=True, exist_ok=True)
    file = args.folder / "checkpoint.pt"
    if file.exists():
        state = torch.load(file)
        model.load_state_dict(state["model"])
        for o, s in zip(optims, state["optimizers"], strict=True):
            o.load_state_dict(s)
        average, step, spent, first = state["average"], state["step"], state["minutes"], state["next"]
    torch.manual_seed(args.seed + step + 1_000_003 * rank)
    scenes = Scenes(vae, first + 50_000_000 * rank)
    if args.calm is None:
        buffer = Buffer(scenes)
    else:
        teacher = Editor().requires_grad_(False)
        teacher.load_state_dict(average)
        buffer = Buffer(CalmScenes(scenes, teacher, args.calm))
    for _ in range(10):
        buffer.add(100)

    def save() -> None:
        state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optims], "average": average}
        state |= {"step": step, "minutes": spent + (time.time() - start) / 60, "next": scenes.next}
        torch.save(state, file.with_suffix(".tmp"))
        file.with_suffix(".tmp").rename(file)

    start, saved, losses = time.time(), time.time(), []
    while True:
        clock = torch.tensor([time.time() - start])
        if dist.is_initialized():
            dist.broadcast(clock, 0)
        elapsed = clock.item() / 60
        if elapsed >= args.minutes:
            break
        rate = args.rate * min(1.0, (step + 1) / 300)
        if args.fall:
            rate *= 1 - elapsed / args.minutes
        for o in optims:
            for group in o.param_groups:
                group["lr"] = rate
        loss = loss_of(model, buffer.batch(args.fresh, args.batch), not args.fp32)
        for o in optims:
            o.zero_grad()
        loss.backward()
        if dist.is_initialized():
            average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optims:
            o.step()
        step += 1
        losses.append(loss.item())
        decay = min(0.999, step / (step + 10))
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - decay)
        if step % 200 == 0 and rank == 0:
            line = {"step": step, "minutes": round(spent + elapsed, 2), "loss": round(sum(losses) / len(losses), 5)}
            print(json.dumps(line | {"rate": rate, "scenes": scenes.next - first}), flush=True)
            losses.clear()
        if time.time() - saved > 180 and rank == 0:
            save()
            export(model, vae, average, args.folder / "export")
            saved = time.time()
    if rank == 0:
        save()
        export(model, vae, average, args.folder / "export")


if __name__ == "__main__":
    main()
