"""A judge asked as its library would: the stock processor and one stock forward for every query."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import Qwen2_5_VLProcessor, Qwen3VLProcessor

from onereward.models.qwen_pixels import patches_of
from onereward.models.qwen_vl import QwenVLJudge

_PROCESSORS = {"qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor}


class Doubles(TorchFunctionMode):
    """What is double stays double: stock models take norms, rotations and softmax in float32, whatever they run in."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if isinstance(args[0] if args else None, Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if arg is torch.float32 else arg for arg in args)
            options = {name: torch.float64 if value is torch.float32 else value for name, value in options.items()}
        return func(*args, **options)


def stock_processor(judge: QwenVLJudge) -> Any:
    """The stock processor without its constructor, which needs torchvision."""
    processor = object.__new__(_PROCESSORS[judge.model.config.model_type])
    processor.image_processor = judge.pixels.to_processor()
    processor.tokenizer, processor.video_processor = judge.tokenizer, None
    processor.image_token, processor.video_token = "<|image_pad|>", "<|video_pad|>"
    processor.image_token_id, processor.video_token_id = judge.tokenizer.convert_tokens_to_ids(
        [processor.image_token, processor.video_token]
    )
    processor.chat_template = judge.tokenizer.chat_template
    return processor


def stock_inputs(judge: QwenVLJudge, first_3HW: Tensor, second_3HW: Tensor, query: str) -> dict[str, Tensor]:
    """What the stock processor makes of two images of whole grey levels in [-1, 1] and a query."""
    images = [
        Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
        for image in (first_3HW.detach(), second_3HW.detach())
    ]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": query}]
    text = judge.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return dict(stock_processor(judge)(text=[text], images=images, return_tensors="pt"))


def stock_logits(
    judge: QwenVLJudge,
    first: Sequence[Tensor],
    second: Sequence[Tensor],
    queries: Sequence[Sequence[str]],
    *,
    own_pixels: bool = False,
) -> Tensor:
    """logits_QV of every query of every pair, one stock forward each.

    `own_pixels` puts the judge's differentiable patches in place of the processor's, which have no gradient and are
    float32.
    """
    rows = []
    for b, sample in enumerate(queries):
        for query in sample:
            inputs = stock_inputs(judge, first[b], second[b], query)
            if own_pixels:
                inputs["pixel_values"], _ = patches_of([first[b], second[b]], judge.pixels)
            rows.append(judge.model(**inputs).logits[0, -1])
    return torch.stack(rows)


def log_odds(judge: QwenVLJudge, logits_QV: Tensor) -> Tensor:
    yes, no = judge.answer_ids
    return logits_QV[:, yes] - logits_QV[:, no]


def heard(judge: QwenVLJudge, ask: Callable[[], object]) -> dict[str, Any]:
    """What reaches the stock model while `ask` runs: its arguments, and of the tower `pixel_values` and the grid.

    The tower hears the first images and then the second ones; both are put together.
    """
    arguments: dict[str, Any] = {}
    seen: list[tuple[Tensor, Tensor]] = []
    hooks = [
        judge.model.register_forward_pre_hook(lambda _, args, options: arguments.update(options), with_kwargs=True),
        judge.model.model.visual.register_forward_pre_hook(
            lambda _, args, options: seen.append((args[0], options["grid_thw"])), with_kwargs=True
        ),
    ]
    try:
        ask()
    finally:
        for hook in hooks:
            hook.remove()
    pixel_values, image_grid_thw = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return {**arguments, "pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
