"""Pretrain the toy CLIP, which `select` embeds images with: contrastive, toy scenes against their captions.

    OMP_NUM_THREADS=1 python experiments/pretrain_clip/train.py --minutes 5 --output work/clip

Equal captions in a batch are all positives. The image processor is saved beside the model, as on the Hub.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from onereward.terms import Task
from onereward.toy.editor_model import PROMPT_WORDS, TEXT_LENGTH
from onereward.toy.scenes import make_scene, object_prompt
from onereward.toy.tokenizers import toy_clip_tokenizer

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        projection_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=192,
        projection_dim=64,
        num_hidden_layers=3,
        num_attention_heads=3,
        image_size=64,
        patch_size=16,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64))


def pairs(first: int, count: int) -> tuple[Tensor, list[str]]:
    """Images `image_N3HW` (CLIP-normalised) and captions: what the edit shows, else the distractor, else nothing."""
    images, captions = [], []
    for index in range(first, first + count):
        scene = make_scene("train", index)
        images.append(scene.truth_HW3)
        thing = scene.distractor if scene.task is Task.REMOVE else scene.object or scene.distractor
        captions.append(scene.prompt if scene.sign else object_prompt(thing) if thing else "")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
    return (pixels - MEAN) / STD, captions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tokenizer = toy_clip_tokenizer(PROMPT_WORDS, max_length=TEXT_LENGTH)
    model = build(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.05)
    start, step, first = time.time(), 0, 2_000_000
    while (progress := (time.time() - start) / 60 / args.minutes) < 1:
        pixels, captions = pairs(first, 96)
        first += 96
        ids = tokenizer(captions, padding="max_length", max_length=TEXT_LENGTH, return_tensors="pt")
        out = model(input_ids=ids.input_ids, attention_mask=ids.attention_mask, pixel_values=pixels)
        same = torch.tensor([[a == b for b in captions] for a in captions]).float()
        logits = out.logits_per_image
        targets = same / same.sum(1, keepdim=True)
        loss = -(targets * logits.log_softmax(1)).sum(1).mean() - (targets * logits.log_softmax(0)).sum(0).mean()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * progress))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            right = (same.gather(1, logits.argmax(1, keepdim=True)) > 0).float().mean().item()
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "top1": round(right, 3)}), flush=True)
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    CLIPImageProcessorPil(**size).save_pretrained(args.output)


if __name__ == "__main__":
    main()
