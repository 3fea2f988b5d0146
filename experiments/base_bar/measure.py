"""Is the toy base editor good enough? The bars of its pretraining, on scenes it has not seen.

    OMP_NUM_THREADS=1 python experiments/base_bar/measure.py --editor work/editor/export --split validation --count 320

Per task and dimension: the oracle's score of the emptied hole, the base's edit, the truth through the VAE (the ceiling)
and the truth itself; the share of the way from hole to ceiling that the base goes; how often the best template is the
asked shape, and the nearest glyphs the asked letters. Sampled with stock diffusers.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxFillPipeline
from PIL import Image

from onereward.terms import Dimension, Task
from onereward.toy.editor_model import PACKED_LATENT, VAE_FACTOR
from onereward.toy.oracle import find_figure, read_letters, score_edit
from onereward.toy.scenes import SIZE, Scene, Split, make_scene

BATCH = 20
TOKENS = (SIZE // (2 * VAE_FACTOR)) ** 2


def edits(
    pipeline: FluxFillPipeline, scenes: list[Scene], steps: int, guidance: float, noise_scale: float
) -> np.ndarray:
    """edit_NHW3 in [0, 1], pasted into the source."""
    out = []
    for start in range(0, len(scenes), BATCH):
        chunk = scenes[start : start + BATCH]
        generator = torch.Generator().manual_seed(start)
        images = pipeline(
            prompt=[scene.prompt for scene in chunk],
            image=[Image.fromarray(scene.source_HW3) for scene in chunk],
            mask_image=[Image.fromarray(scene.mask_HW.astype(np.uint8) * 255) for scene in chunk],
            height=64,
            width=64,
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=16,
            latents=noise_scale * torch.randn(len(chunk), TOKENS, PACKED_LATENT, generator=generator),
            generator=generator,
            output_type="np",
        ).images
        source = np.stack([scene.source_HW3 for scene in chunk]) / 255.0
        mask = np.stack([scene.mask_HW for scene in chunk])[..., None]
        out.append(np.where(mask, images, source))
    return np.concatenate(out)


def through_vae(pipeline: FluxFillPipeline, scenes: list[Scene]) -> tuple[np.ndarray, float]:
    x = torch.from_numpy(np.stack([scene.truth_HW3 for scene in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    with torch.no_grad():
        y = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
    psnr = float(-10 * torch.log10(((x - y) / 2).square().mean((1, 2, 3))).mean())
    return (y.permute(0, 2, 3, 1).double() * 0.5 + 0.5).numpy(), psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--editor", type=Path, required=True)
    parser.add_argument("--split", type=Split, default=Split.VALIDATION)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=320)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--noise-scale", type=float, default=1.0)
    parser.add_argument("--grid", type=Path)
    args = parser.parse_args()
    pipeline = FluxFillPipeline.from_pretrained(args.editor)
    pipeline.set_progress_bar_config(disable=True)
    scenes = [make_scene(args.split, args.first + index) for index in range(args.count)]
    edited = edits(pipeline, scenes, args.steps, args.guidance, args.noise_scale)
    ceiling, psnr = through_vae(pipeline, scenes)
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    right_shape, right_letters = [], defaultdict(list)
    for scene, edit, best in zip(scenes, edited, ceiling, strict=True):
        versions = (scene.hole_HW3 / 255.0, edit, best, scene.truth_HW3 / 255.0)
        scores = [score_edit(scene, version) for version in versions]
        for dimension in scores[0]:
            rows[scene.task, dimension].append(tuple(score[dimension] for score in scores))
        if scene.object and scene.task in (Task.FILL, Task.EXTEND):
            figure = find_figure(scene.mask_HW, scene.background_HW3 / 255.0, edit)
            right_shape.append(figure.shape == scene.object.shape)
        if scene.sign:
            read = "".join(max(match, key=lambda c: match[c]) for match in read_letters(scene.sign, edit))
            right_letters[len(scene.sign.word)].append(read == scene.sign.word)
    print(f"VAE {psnr:.2f} dB; {args.split}, {args.steps} steps, guidance {args.guidance}, noise {args.noise_scale}")
    for (task, dimension), values in sorted(rows.items()):
        hole, base, top, truth = np.mean(values, 0)
        share = (base - hole) / (top - hole)
        print(
            f"{Task(task).value:8}{Dimension(dimension).value:16} n {len(values):4d}  hole {hole:.3f}  base {base:.3f} "
            f" ceiling {top:.3f}  truth {truth:.3f}  share {share:.3f}  ceiling/truth {top / truth:.3f}"
        )
    print(f"template right {np.mean(right_shape):.3f} (n {len(right_shape)})")
    print(json.dumps({f"{k} letters right": [round(float(np.mean(v)), 3), len(v)] for k, v in right_letters.items()}))
    if args.grid:
        tiles = [
            np.concatenate([scene.hole_HW3, (edit * 255).round().astype(np.uint8)], 1)
            for scene, edit in zip(scenes[:64], edited[:64], strict=True)
        ]
        grid = np.concatenate([np.concatenate(tiles[row * 8 : row * 8 + 8], 1) for row in range(8)])
        Image.fromarray(grid).resize((2048, 1024), Image.Resampling.NEAREST).save(args.grid)


if __name__ == "__main__":
    main()
