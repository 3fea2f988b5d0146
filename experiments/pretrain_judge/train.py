"""Pretrains the toy judge on dense questions about toy pictures; run again to continue.

    OMP_NUM_THREADS=1 python experiments/pretrain_judge/train.py --minutes 60

Checkpoints lie in the git-ignored work/pretrain_judge/, progress in log.jsonl beside this file; `--export FOLDER`
writes the averaged weights as an ordinary transformers folder instead of training.
"""

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from perception import Heads, Targets, targets_of
from pictures import make_pair
from questions import ANSWERS, Pair, Question, ask
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Tokenizer

from onereward.ema import frozen_copy, update_average
from onereward.models.attention import SDPA_FLOAT32
from onereward.models.qwen_pixels import PixelRules
from onereward.models.qwen_vl import QwenVLJudge
from onereward.seeds import numpy_generator
from onereward.toy.judge_model import (
    new_toy_judge,
    save_judge_folder,
    toy_image_processor,
    toy_judge_config,
    toy_judge_tokenizer,
    toy_texts,
)

HERE = Path(__file__).parent
WORK = Path("work/pretrain_judge")


@dataclass(frozen=True, kw_only=True)
class Config:
    seed: int = 0
    batch: int = 16
    questions: int = 6
    learning_rate: float = 1e-3
    warm_up: int = 300
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    decay: float = 0.999
    vision_layers: int = 4
    text_layers: int = 4


@dataclass(frozen=True, kw_only=True)
class Batch:
    first_B3HW: Tensor
    second_B3HW: Tensor
    questions: list[list[Question]]
    targets: Targets


def make_batch(split: str, step: int, config: Config) -> Batch:
    """Batch `step` of a split: a function of the config's seed, the step and the place in the batch alone."""
    pairs, questions = [], []
    for place in range(config.batch):
        pictures = make_pair(split, config.seed, step, place)
        pair = Pair(pictures=pictures, rendered=(pictures[0].render(), pictures[1].render()))
        rng = numpy_generator("judge-questions", split, config.seed, step, place)
        pairs.append(pair)
        questions.append(ask(pair, rng, config.questions))
    first, second = (
        torch.from_numpy(np.stack([pair.pixels[which] for pair in pairs])).float().permute(0, 3, 1, 2) * 2 - 1
        for which in range(2)
    )
    pictures = [pair.pictures[which] for which in range(2) for pair in pairs]
    targets = targets_of(pictures, [pair.rendered[which] for which in range(2) for pair in pairs])
    return Batch(first_B3HW=first, second_B3HW=second, questions=questions, targets=targets)


def answers(judge: QwenVLJudge, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Logits_NV and the right tokens_N of all N questions of the batch, and the vision tokens_BTC of its 2B images."""
    with torch.autocast("cpu", torch.bfloat16):
        texts = [[question.text for question in asked] for asked in batch.questions]
        seen: list[Tensor] = []  # of the first images, then of the second ones
        hook = judge.model.model.visual.register_forward_hook(lambda *call: seen.append(call[2].pooler_output))
        logits = judge.logits(batch.first_B3HW, batch.second_B3HW, texts)
        hook.remove()
        seen_BTC = torch.cat(seen).unflatten(0, (2 * len(texts), -1))
    words = [question.answer for asked in batch.questions for question in asked]
    tokens = judge.tokenizer(words, add_special_tokens=False)["input_ids"]
    assert all(len(ids) == 1 for ids in tokens), "every answer is one token"
    return logits.flatten(0, 1).float(), torch.tensor(tokens)[:, 0], seen_BTC.float()


def vocabulary() -> Qwen2Tokenizer:
    """The words of toy queries and of the questions; kept beside the checkpoints, which stand and fall with it."""
    folder = WORK / "tokenizer"
    if folder.exists():
        return Qwen2Tokenizer.from_pretrained(folder)
    corpus = [*toy_texts(), *ANSWERS]
    for index in range(1000):
        pictures = make_pair("train", "vocabulary", index)
        pair = Pair(pictures=pictures, rendered=(pictures[0].render(), pictures[1].render()))
        rng = numpy_generator("judge-vocabulary", index)
        corpus += [question.text.partition(" The prompt of")[0] for question in ask(pair, rng, 8)]
    tokenizer = toy_judge_tokenizer(corpus)
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_judge(config: Config) -> QwenVLJudge:
    tokenizer = vocabulary()
    shape = toy_judge_config(tokenizer, text_layers=config.text_layers, vision_layers=config.vision_layers)
    model = new_toy_judge(shape, config.seed)
    model.set_attn_implementation(SDPA_FLOAT32)
    return QwenVLJudge(model, tokenizer, PixelRules.of(toy_image_processor(), 448 * 448))


@torch.no_grad()
def accuracy(judge: QwenVLJudge, config: Config, batches: int) -> dict[str, float]:
    """Share of right answers by family on validation pictures."""
    right: dict[str, list[bool]] = defaultdict(list)
    for step in range(batches):
        batch = make_batch("validation", step, config)
        logits, tokens, _ = answers(judge, batch)
        hits = (logits.argmax(-1) == tokens).tolist()
        families = [question.family for asked in batch.questions for question in asked]
        for family, hit in zip(families, hits, strict=True):
            right[family].append(hit)
            right["all"].append(hit)
    return {family: round(float(np.mean(hits)), 3) for family, hits in sorted(right.items())}


def save(path: Path, step: int, optimizers: list[torch.optim.Optimizer], parts: dict[str, nn.Module]) -> None:
    state = {"step": step, "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state | {name: part.state_dict() for name, part in parts.items()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def log(record: dict[str, object], path: Path) -> None:
    line = json.dumps(record)
    print(line, flush=True)
    with path.open("a") as file:
        file.write(line + "\n")


def make_optimizers(model: nn.Module, heads: Heads, config: Config) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest."""
    matrices = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and ("layers" in name or "blocks" in name or "merger" in name)
    }
    rest = [parameter for name, parameter in model.named_parameters() if name not in matrices]
    options = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    return [
        torch.optim.AdamW([*rest, *heads.parameters()], betas=config.betas, **options),
        torch.optim.Muon(matrices.values(), adjust_lr_fn="match_rms_adamw", **options),
    ]


def train(config: Config, minutes: float, checkpoint: Path, log_path: Path, last: bool) -> None:
    judge = new_judge(config)
    average = QwenVLJudge(frozen_copy(judge.model), judge.tokenizer, judge.pixels)
    heads = Heads(judge.model.config.vision_config.out_hidden_size)
    trained = [*judge.model.parameters(), *heads.parameters()]
    optimizers = make_optimizers(judge.model, heads, config)
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        judge.model.load_state_dict(state["model"])
        average.model.load_state_dict(state["average"])
        heads.load_state_dict(state["heads"])
        for optimizer, optimizer_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_state)
        step = state["step"]
    started = time.monotonic()
    seen: list[dict[str, float]] = []
    while (share := (time.monotonic() - started) / (60 * minutes)) < 1:
        rate = config.learning_rate * min(1.0, (step + 1) / config.warm_up) * (1 - share if last else 1)
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        batch = make_batch("train", step, config)
        logits, tokens, seen_BTC = answers(judge, batch)
        losses = {"answers": functional.cross_entropy(logits, tokens), **heads.losses(seen_BTC, batch.targets)}
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, config.clip)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        update_average(average.model, judge.model, min(config.decay, 1 - 1 / (step + 1)))
        right = (logits.argmax(-1) == tokens).float().mean()
        seen.append({name: value.item() for name, value in {**losses, "right": right}.items()})
        if step % 100 == 0:
            figures = {name: round(float(np.mean([line[name] for line in seen])), 3) for name in seen[0]}
            log({"step": step, "seconds": round(time.monotonic() - started), **figures}, log_path)
            seen.clear()
        if step % 500 == 0:
            save(checkpoint, step, optimizers, {"model": judge.model, "average": average.model, "heads": heads})
        if step % 2000 == 0:
            log({"step": step, "validation": accuracy(average, config, 40)}, log_path)
    save(checkpoint, step, optimizers, {"model": judge.model, "average": average.model, "heads": heads})


def export(config: Config, checkpoint: Path, folder: Path) -> None:
    judge = new_judge(config)
    judge.model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    save_judge_folder(folder, judge.model, judge.tokenizer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--name", default="checkpoint", help="of the checkpoint and, unless it is the default, its log")
    parser.add_argument("--last", action="store_true", help="the last leg: the rate falls to zero")
    parser.add_argument("--export", type=Path)
    parser.add_argument("--vision-layers", type=int, default=4)
    arguments = parser.parse_args()
    config = Config(vision_layers=arguments.vision_layers)
    checkpoint = WORK / f"{arguments.name}.pt"
    if arguments.export:
        export(config, checkpoint, arguments.export)
    else:
        log_path = HERE / "log.jsonl" if arguments.name == "checkpoint" else WORK / f"{arguments.name}.jsonl"
        train(config, arguments.minutes, checkpoint, log_path, arguments.last)


if __name__ == "__main__":
    main()
