"""Four dimensions of a pair in one packed pass against four stock forwards: time and memory, to the pixels and back.

    OMP_NUM_THREADS=1 python -m benchmarks.judge_scoring [--image-size 448 --pairs 1 4 --rounds 7]

The model is a Qwen2.5-VL of random weights in float32 with the 7B's own patches, windows and sequence lengths (a
448x448 image is 256 tokens), a sixteenth of its widths and a quarter of its heads and layers, so that the vision
tower's share of the multiplications is about the 7B's. Its share of the time is larger (narrow matrices, many
windows), so the ratio is also given for the language model alone. Work of a contestant: from images in memory to the
log odds of four queries, and from their sum back to the pixels of both images. Stock is one call of the stock class a
dimension, written with care: logits of the last token only; nothing padded, so that it uses its causal kernel;
backward after each call, so that it holds one graph (`one backward` instead is the loop of the paper's lines 9 to
11). Both tokenise inside the clock and take the same differentiable patches. Contestants take turns; a ratio is the
median over the rounds of the ratio within a round. Memory is the peak of what torch allocated during the work. The
run fails unless log odds and gradients are equal.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.qwen_pixels import PixelRules, grid_thw, patches_of
from onereward.models.qwen_vl import CHAT, QwenVLJudge
from onereward.query import build_query
from onereward.runtime.threads import torch_threads
from onereward.terms import DIMENSIONS, Task
from onereward.toy.judge_model import SPECIAL_TOKENS, toy_judge_tokenizer

PROMPT = "a bouquet of white roses in a tall glass vase on the wooden table, soft light from the left"
DIMENSIONS_ASKED = DIMENSIONS[Task.FILL]
QUERIES = tuple(build_query(Task.FILL, dimension, PROMPT) for dimension in DIMENSIONS_ASKED)
TOLERANCE = 1e-4
"""How far float32 log odds (absolute) and gradients (of the largest) may be from stock's."""

Pair = tuple[Tensor, Tensor]
"""first_B3HW and second_B3HW, both leaves that take a gradient."""
Work = Callable[[], Tensor]
"""Forward and backward; returns the log odds_BK."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the shapes of a Qwen2.5-VL; the defaults are Qwen2.5-VL-7B-Instruct's."""

    text: tuple[int, int, int] = (3584, 18944, 28)
    """Width, width of the feed-forward layer, layers; so for `vision`."""
    text_heads: tuple[int, int] = (28, 4)
    """Of queries, of keys and values."""
    rope: tuple[int, int, int] = (16, 24, 24)
    vision: tuple[int, int, int] = (1280, 3420, 32)
    vision_heads: int = 16
    full_attention: tuple[int, ...] = (7, 15, 23, 31)
    words: int = 152064
    weight_std: float = 0.02


SEVEN_B = Sizes()
SIXTEENTH = Sizes(
    text=(224, 1184, 7),
    text_heads=(7, 1),
    rope=(4, 6, 6),
    vision=(80, 214, 8),
    vision_heads=4,
    full_attention=(7,),
    words=512,
    weight_std=0.08,  # the 7B's times the square root of 16: the same size of activations
)
SMALLEST = replace(
    SIXTEENTH,
    text=(128, 384, 2),
    text_heads=(4, 2),
    vision=(40, 108, 2),
    vision_heads=2,
    full_attention=(1,),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=448, metavar="PX")
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 4], metavar="N", help="pairs in a batch")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    args = parser.parse_args()
    with torch_threads(1):
        judge = random_judge(SIXTEENTH, torch.device("cpu"), torch.float32).freeze()
        found = {f"batch of {pairs}": measure(judge, args.image_size, pairs, args.rounds) for pairs in args.pairs}
    print(json.dumps({**describe(judge, args.image_size), **found}, indent=1))


def describe(judge: QwenVLJudge, image_size: int) -> dict[str, Any]:
    """What a figure depends on: device, precision, lengths of sequences, how the work divides here and in the 7B."""
    device = judge.model.device
    lengths = [ids.shape[1] for ids in (chat_ids(judge, query, (image_size, image_size), 1) for query in QUERIES)]
    with torch.device("meta"):
        of_7b = vision_share(random_model(SEVEN_B, judge.tokenizer, torch.bfloat16), image_size, lengths[0])
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(judge.model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "weights": sum(parameter.numel() for parameter in judge.model.parameters()),
        "image_size": image_size,
        "tokens_of_a_stock_sequence": lengths,
        "vision_share_of_multiplications": round(vision_share(judge.model, image_size, lengths[0]), 3),
        "vision_share_of_multiplications_in_the_7b": round(of_7b, 3),
    }


def measure(judge: QwenVLJudge, image_size: int, pairs: int, rounds: int) -> dict[str, Any]:
    """Median seconds and peak memory of each contestant, and the ratios; RuntimeError for unequal float32 results."""
    pair = noise_pair(pairs, image_size, judge.model.device)
    contestants: dict[str, Work] = {
        "stock": partial(stock, judge, pair, QUERIES),
        "packed": partial(packed, judge, pair, QUERIES),
        "packed, one dimension": partial(packed, judge, pair, QUERIES[-1:]),
    }
    differences = compare(contestants["stock"], contestants["packed"], pair)
    if judge.model.dtype == torch.float32 and max(differences.values()) > TOLERANCE:
        raise RuntimeError(f"packed and stock do different work: {differences}, expected at most {TOLERANCE}")
    seconds = take_turns({**contestants, "vision tower once": partial(_see, judge, pair)}, rounds, judge.model.device)
    contestants["stock, one backward"] = partial(_stock_at_once, judge, pair, QUERIES)
    peak = {name: peak_mib(work, judge.model.device) for name, work in contestants.items()}
    language = {name: _without_vision(seconds, name, often) for name, often in (("stock", len(QUERIES)), ("packed", 1))}
    return {
        "seconds": {name: round(statistics.median(times), 4) for name, times in seconds.items()},
        "stock over packed": ratio(seconds["stock"], seconds["packed"]),
        "four dimensions over one": ratio(seconds["packed"], seconds["packed, one dimension"]),
        "stock over packed, language model alone": ratio(language["stock"], language["packed"]),
        "vision_share_of_stock_time": round(1 - 1 / ratio(seconds["stock"], language["stock"]), 2),
        "peak_mib": peak,
        "peak, stock over packed": _over(peak["stock"], peak["packed"]),
        "peak, stock with one backward over packed": _over(peak["stock, one backward"], peak["packed"]),
        **differences,
    }


def random_judge(sizes: Sizes, device: torch.device, dtype: torch.dtype) -> QwenVLJudge:
    """A judge of these sizes, its random weights made on the device in that precision, with no limit on pixels.

    Its vocabulary makes a token of every word of `QUERIES`, as the real one nearly does.
    """
    tokenizer = toy_judge_tokenizer([*(CHAT.format(image="", query=query) for query in QUERIES), "yes", "no"])
    torch.manual_seed(0)
    with device:
        model = random_model(sizes, tokenizer, dtype)
    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 56 * 56, "longest_edge": 3584 * 3584})
    return QwenVLJudge(model, tokenizer, PixelRules.of(processor, 3584 * 3584))


def random_model(sizes: Sizes, tokenizer: Any, dtype: torch.dtype) -> Any:
    """The stock class on the current default device."""
    width, inner, layers = sizes.text
    vision_width, vision_inner, depth = sizes.vision
    token = dict(zip(SPECIAL_TOKENS, tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)), strict=True))
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": sizes.words,
            "hidden_size": width,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": sizes.text_heads[0],
            "num_key_value_heads": sizes.text_heads[1],
            "rms_norm_eps": 1e-6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(sizes.rope)},
            "initializer_range": sizes.weight_std,
            "bos_token_id": token["<|endoftext|>"],
            "eos_token_id": token["<|im_end|>"],
            "pad_token_id": token["<|endoftext|>"],
        },
        vision_config={
            "hidden_size": vision_width,
            "intermediate_size": vision_inner,
            "depth": depth,
            "num_heads": sizes.vision_heads,
            "fullatt_block_indexes": list(sizes.full_attention),
            "out_hidden_size": width,
            "initializer_range": sizes.weight_std,
        },
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
    )
    return AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")


def vision_share(model: Any, image_size: int, length: int) -> float:
    """The vision tower's share of a stock forward's multiplications by weights, for two images in `length` tokens."""
    tower, merger = model.model.visual, model.model.visual.merger
    patches = 2 * (image_size // tower.patch_size) ** 2
    vision = (_weights(tower) - _weights(merger)) * patches + _weights(merger) * patches // tower.spatial_merge_unit
    text = _weights(model.model.language_model.layers) * length
    return float(vision / (vision + text))


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def packed(judge: QwenVLJudge, pair: Pair, queries: Sequence[str]) -> Tensor:
    """Ours: each image seen once, all queries in one sequence."""
    log_odds_BK = judge.log_odds(*pair, [queries] * len(pair[0]))
    log_odds_BK.sum().backward()
    return log_odds_BK.detach()


def stock(judge: QwenVLJudge, pair: Pair, queries: Sequence[str]) -> Tensor:
    """One stock forward and backward a query."""
    columns = []
    for query in queries:
        log_odds_B = stock_log_odds(judge, pair, query)
        log_odds_B.sum().backward()
        columns.append(log_odds_B.detach())
    return torch.stack(columns, dim=1)


def _stock_at_once(judge: QwenVLJudge, pair: Pair, queries: Sequence[str]) -> Tensor:
    log_odds_BK = torch.stack([stock_log_odds(judge, pair, query) for query in queries], dim=1)
    log_odds_BK.sum().backward()
    return log_odds_BK.detach()


def stock_log_odds(judge: QwenVLJudge, pair: Pair, query: str) -> Tensor:
    """log_odds_B of one query by the stock class, from what its processor would make of texts and images."""
    device = judge.model.device
    images_N3HW = torch.stack(pair, dim=1).flatten(0, 1)  # a text's two images follow one another
    patches_ND, grids = patches_of(images_N3HW, judge.pixels)
    ids_BL = chat_ids(judge, query, pair[0].shape[-2:], len(pair[0])).to(device)
    logits_BV = (
        judge.model(
            input_ids=ids_BL,
            attention_mask=torch.ones_like(ids_BL),
            mm_token_type_ids=(ids_BL == judge.model.config.image_token_id).int(),
            pixel_values=patches_ND,
            image_grid_thw=grid_thw(grids, judge.pixels).to(device),
            logits_to_keep=1,
            use_cache=False,
        )
        .logits[:, -1]
        .float()
    )
    yes, no = judge.answer_ids
    return logits_BV[:, yes] - logits_BV[:, no]


def chat_ids(judge: QwenVLJudge, query: str, size: Sequence[int], pairs: int) -> Tensor:
    """The chat's ids_BL with each image's placeholder as often as it takes tokens, the same for all pairs."""
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": query}]
    text = judge.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    rows, columns = judge.pixels.merged_grid(*size)
    text = text.replace("<|image_pad|>", "<|image_pad|>" * (rows * columns))
    ids: Tensor = judge.tokenizer([text] * pairs, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return ids


def _see(judge: QwenVLJudge, pair: Pair) -> Tensor:
    """The vision tower alone, forward and backward, as often as one stock call runs it."""
    patches_ND, grids = patches_of(torch.cat(pair), judge.pixels)
    grid = grid_thw(grids, judge.pixels).to(judge.model.device)
    seen = torch.cat(judge.model.model.get_image_features(patches_ND, grid, return_dict=True).pooler_output)
    seen.sum().backward()
    return seen.detach()


def compare(one: Work, other: Work, pair: Pair) -> dict[str, float]:
    """The largest difference of log odds, and of gradients as a share of the largest gradient."""
    (log_odds, *gradients), (others, *other_gradients) = (_results(work, pair) for work in (one, other))
    shares = [
        ((mine - theirs).abs().max() / mine.abs().max()).item()
        for mine, theirs in zip(gradients, other_gradients, strict=True)
    ]
    return {
        "log_odds_difference": (log_odds - others).abs().max().item(),
        "gradient_difference": max(shares),
    }


def _results(work: Work, pair: Pair) -> tuple[Tensor, ...]:
    for image in pair:
        image.grad = None
    log_odds = work()
    assert all(image.grad is not None and image.grad.any() for image in pair), "the gradient reaches both images"
    return log_odds, *(image.grad.clone() for image in pair if image.grad is not None)


def take_turns(
    contestants: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            _synchronize(device)
            started = time.perf_counter()
            work()
            _synchronize(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
                print(f"round {number} of {rounds}, {name}: {seconds[name][-1]:.3f} s", file=sys.stderr)
    return seconds


def _without_vision(seconds: Mapping[str, Sequence[float]], name: str, often: int) -> list[float]:
    """What is left of a contestant's time, round by round, without the vision tower that it ran so often."""
    return [whole - often * vision for whole, vision in zip(seconds[name], seconds["vision tower once"], strict=True)]


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return round(statistics.median(one / other for one, other in zip(slow, fast, strict=True)), 2)


def _over(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one / other, 2)


def peak_mib(work: Callable[[], object], device: torch.device) -> float | None:
    """The most that torch had allocated during the work, beyond what it had before; None where that did not fit."""
    try:
        peak = _peak_of_gpu(work, device) if device.type == "cuda" else _peak_of_cpu(work)
    except torch.OutOfMemoryError:
        return None
    return round(peak / 2**20, 1)


def _peak_of_gpu(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return torch.cuda.max_memory_allocated(device) - before


def _peak_of_cpu(work: Callable[[], object]) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiled.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    memory = [each["args"] for each in sorted(events, key=lambda each: each["ts"]) if each["name"] == "[memory]"]
    before = memory[0]["Total Allocated"] - memory[0]["Bytes"]  # of an earlier profile in this process, never freed
    return max(int(each["Total Allocated"]) for each in memory) - int(before)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def noise_pair(pairs: int, size: int, device: torch.device) -> Pair:
    """Noise in [-1, 1], the second image a little off the first, as a policy's and its reference's are."""
    generator = torch.Generator().manual_seed(0)
    first_B3HW = torch.rand(pairs, 3, size, size, generator=generator) * 1.8 - 0.9
    second_B3HW = first_B3HW + 0.1 * (torch.rand(first_B3HW.shape, generator=generator) - 0.5)
    return first_B3HW.to(device).requires_grad_(), second_B3HW.to(device).requires_grad_()


if __name__ == "__main__":
    main()
