"""Pretrain the toy VAE: AutoencoderKL, factor 4, 8 latent channels, on crops of toy training scenes.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 experiments/pretrain_vae/train.py --minutes 8 --output work/vae

Plain RGB training stays grey for a quarter of an hour at this width. What works: an opponent colour space (brightness,
red-green, blue-yellow), convolutions that start as the identity, the encoder's mode with a little noise in place of KL
sampling. The colour matrix is then folded into conv_in and conv_out, so that the saved model is a plain RGB VAE.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import AutoencoderKL
from torch import Tensor, nn

from onereward.toy.scenes import make_scene

OPPONENT = torch.tensor([[0.299, 0.587, 0.114], [0.8, -0.4, -0.4], [-0.4, -0.4, 0.8]])
"""RGB -> (brightness, red against the rest, blue against the rest)."""
LATENT_NOISE = 0.03


def build() -> AutoencoderKL:
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=64,
    )
    for name, module in vae.named_modules():
        starts_as_identity = name.endswith(("conv_in", "conv_shortcut", "samplers.0.conv"))
        if isinstance(module, nn.Conv2d) and starts_as_identity:
            nn.init.dirac_(module.weight)
            nn.init.zeros_(module.bias)
    return vae


def fold_colour(vae: AutoencoderKL) -> None:
    """Make the opponent-space VAE a plain RGB one."""
    with torch.no_grad():
        first, last = vae.encoder.conv_in, vae.decoder.conv_out
        first.weight.copy_(torch.einsum("oihw,ic->ochw", first.weight, OPPONENT))
        inverse = OPPONENT.inverse()
        last.weight.copy_(torch.einsum("co,oihw->cihw", inverse, last.weight))
        last.bias.copy_(inverse @ last.bias)


def set_posterior(vae: AutoencoderKL) -> None:
    """The posterior's width is the noise of training, everywhere: stock pipelines sample from it."""
    mean_channels = vae.config.latent_channels
    with torch.no_grad():
        last = vae.encoder.conv_out
        last.weight[mean_channels:] = 0.0
        last.bias[mean_channels:] = 2 * math.log(LATENT_NOISE)


def scene_images(start: int, count: int) -> Tensor:
    """Truths and sources of training scenes, image_N3HW uint8."""
    images = []
    for index in range(start, start + count):
        scene = make_scene("train", index)
        images += [scene.truth_HW3, scene.hole_HW3 if index % 4 == 0 else scene.background_HW3]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def crops(images: Tensor, batch: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops in [-1, 1], flipped at random."""
    picks = torch.randint(len(images), (batch,), generator=generator).tolist()
    corners = torch.randint(0, 64 - size + 1, (batch, 2), generator=generator).tolist()
    out = torch.stack([images[p, :, y : y + size, x : x + size] for p, (y, x) in zip(picks, corners, strict=True)])
    return out.float() / 127.5 - 1.0


def psnr(vae: AutoencoderKL, images: Tensor, opponent: bool) -> float:
    """Mean PSNR in dB over whole scenes, from the encoder's mode."""
    matrix, inverse = OPPONENT, OPPONENT.inverse()
    values = []
    with torch.no_grad():
        for chunk in images.split(64):
            x = chunk.float() / 127.5 - 1.0
            seen = torch.einsum("oc,bchw->bohw", matrix, x) if opponent else x
            out = vae.decode(vae.encode(seen).latent_dist.mode()).sample
            out = torch.einsum("oc,bchw->bohw", inverse, out) if opponent else out
            error = ((out.clamp(-1, 1) - x) / 2).square().mean((1, 2, 3))
            values.append(-10 * torch.log10(error))
    return float(torch.cat(values).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=6000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    vae = build()
    average = [p.detach().clone() for p in vae.parameters()]
    optimizer = torch.optim.AdamW(vae.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=1e-4)
    images = scene_images(rank * args.scenes, args.scenes)
    held = scene_images(10_000_000, 100)
    generator = torch.Generator().manual_seed(rank)
    start, step = time.time(), 0
    while True:
        clock = torch.tensor([(time.time() - start) / 60 / args.minutes])
        dist.broadcast(clock, 0)
        progress = float(clock)
        if progress >= 1:
            break
        rate = 3e-3 * min(1.0, step / 100) * 0.5 * (1 + math.cos(math.pi * progress))
        for group in optimizer.param_groups:
            group["lr"] = rate
        x = crops(images, 24, 32, generator)
        seen = torch.einsum("oc,bchw->bohw", OPPONENT, x)
        latents = vae.encode(seen).latent_dist.mode()
        noisy = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
        out = vae.decode(noisy).sample
        error = out - seen
        loss = error.square().mean() * 4 + error.abs().mean() * 0.2 + 1e-4 * latents.square().mean()
        optimizer.zero_grad()
        loss.backward()
        flat = torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in vae.parameters()])
        dist.all_reduce(flat)
        flat /= world
        flat *= min(1.0, 1.0 / (float(flat.norm()) + 1e-6))
        offset = 0
        for p in vae.parameters():
            p.grad = flat[offset : offset + p.numel()].view_as(p)
            offset += p.numel()
        optimizer.step()
        step += 1
        decay = min(0.998, step / (step + 10))
        with torch.no_grad():
            for a, p in zip(average, vae.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        if step % 250 == 0 and rank == 0:
            line = {"step": step, "minutes": round((time.time() - start) / 60, 2), "loss": round(loss.item(), 5)}
            print(json.dumps(line | {"psnr": round(psnr(vae, held, opponent=True), 2)}), flush=True)
    if rank == 0:
        with torch.no_grad():
            for a, p in zip(average, vae.parameters(), strict=True):
                p.copy_(a)
        fold_colour(vae)
        set_posterior(vae)
        with torch.no_grad():
            latents = vae.encode(held.float() / 127.5 - 1.0).latent_dist.mode()
        vae.register_to_config(shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std()))
        vae.save_pretrained(args.output)
        channels = latents.transpose(0, 1).flatten(1).std(1)
        print(json.dumps({"final_psnr": psnr(vae, held, opponent=False), "std": channels.tolist(), "steps": step}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
