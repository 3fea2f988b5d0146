"""The judge: Qwen2.5-VL asked whether the first of two images is better; its P("yes") is the reward (Eq. 2, Fig. 3).

One road for training, RL and scoring: the vision tower sees each image once, all queries about a pair travel in one
packed sequence, and the logits after `assistant` are read. Only `forward` is used (`generate` would apply the
checkpoint's repetition penalty). Qwen3-VL goes the same road, its deeper vision features beside the others.

Shape legend: B pairs, H W pixels, N patches of a batch, D numbers of a patch, K queries of a pair, V vocabulary.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from onereward.models.judge_contract import JudgeContract, Probability
from onereward.models.qwen_pack import Grid, Pack, pack
from onereward.models.qwen_pixels import Images, PixelRules, grid_thw, patches_of

CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>{image}<|vision_end|><|vision_start|>{image}<|vision_end|>{query}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""Qwen2.5-VL's chat format for two images and a question, for a tokenizer that came without its template."""

_QUERY = "\N{OBJECT REPLACEMENT CHARACTER}"
_TAKE_ANOTHER = "take the tokenizer and chat template of a Qwen2.5-VL or Qwen3-VL instruct model"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """log P("yes")_BK and log P("no")_BK over the whole vocabulary, NaN where a pair has fewer than K queries."""

    log_yes_BK: Tensor
    log_no_BK: Tensor

    @property
    def log_odds_BK(self) -> Tensor:
        """log P(yes) - log P(no)."""
        return self.log_yes_BK - self.log_no_BK

    @property
    def outside_BK(self) -> Tensor:
        """The probability of every word but the two answers: how far `binary` is from `full`."""
        return 1 - self.log_yes_BK.exp() - self.log_no_BK.exp()

    def prob_yes_BK(self, probability: Probability) -> Tensor:
        """P("yes": the first image is better)."""
        return self.log_yes_BK.exp() if probability is Probability.FULL else self.log_odds_BK.sigmoid()


class Reader(nn.Module):
    """The forward pass of a judge, as one module: what shards a model needs one root through which all of it runs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        first: tuple[Tensor, Tensor],
        second: tuple[Tensor, Tensor],
        shown: Sequence[tuple[int, int]],
        packed: Pack,
        second_grad: bool,
    ) -> Tensor:
        """logits_BKV after each query.

        `first` and `second` are patches_ND and image_grid_thw of B images each; sequence s shows the images
        `shown[s]`, counted over the first ones and then the second ones.
        """
        seen = self._see(*first)
        with torch.set_grad_enabled(torch.is_grad_enabled() and second_grad):
            seen += self._see(*second)
        ordered = [seen[place] for pair in shown for place in pair]
        pooled, *deeper = (tuple(level) for level in zip(*ordered, strict=True))
        logits_BKV: Tensor = self.model(
            input_ids=packed.ids_BL,
            attention_mask=self._mask(packed, pooled[0].dtype),
            position_ids=packed.positions_3BL,
            mm_encoder_outputs={"image": SimpleNamespace(pooler_output=pooled, deepstack_features=deeper)},
            logits_to_keep=packed.last_BK,
            use_cache=False,
        ).logits
        return logits_BKV

    def _see(self, patches_ND: Tensor, grid_thw: Tensor) -> list[tuple[Tensor, ...]]:
        """What the vision tower makes of each image, whatever its place and the queries: one tensor, or several."""
        seen = self.model.model.get_image_features(patches_ND, grid_thw, return_dict=True)
        return list(zip(seen.pooler_output, *(getattr(seen, "deepstack_features", None) or ()), strict=True))

    def _mask(self, packed: Pack, dtype: torch.dtype) -> Tensor:
        """Boolean for scaled_dot_product_attention, additive for eager attention; flash kernels take no such mask."""
        visible_B1LL = packed.visible()
        if self.model.config.text_config._attn_implementation != "eager":
            return visible_B1LL
        blocked = torch.finfo(dtype).min
        return torch.zeros_like(visible_B1LL, dtype=dtype).masked_fill(~visible_B1LL, blocked)


class QwenVLJudge:
    """r_phi on the stock Qwen2.5-VL or Qwen3-VL classes (implements `Judge`).

    Images are `Images` in [-1, 1], `queries[b]` the queries about pair b. Raises ValueError for an answer that is not
    one token, for a chat format that does not show two images, and for what are no images or no queries.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelRules,
        contract: JudgeContract | None = None,
    ) -> None:
        self.reader = Reader(model)
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.contract = contract or JudgeContract()
        self._image_token = _image_token(tokenizer, model.config.image_token_id)
        self._chat = _chat_of(tokenizer, self._image_token)
        self.answer_ids = tuple(_single_token(tokenizer, answer) for answer in self.contract.answers)
        self._marks = re.compile("|".join(map(re.escape, tokenizer.get_added_vocab())))

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.reader.model

    def with_model(self, model: PreTrainedModel) -> "QwenVLJudge":
        """This judge with the weights of another model of its class."""
        return QwenVLJudge(model, self.tokenizer, self.pixels, self.contract)

    def with_contract(self, **changes: Any) -> "QwenVLJudge":
        """This judge, the same weights, under a changed contract."""
        return QwenVLJudge(self.model, self.tokenizer, self.pixels, replace(self.contract, **changes))

    def freeze(self) -> "QwenVLJudge":
        """No parameter takes a gradient from now on (they still pass one to the images); returns the judge."""
        self.model.requires_grad_(False).eval()
        return self

    def recompute_activations(self) -> "QwenVLJudge":
        """From now on activations are computed again on the way back, not kept: the same numbers in less memory."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.model.train()  # transformers recomputes in this mode only; there is no dropout that would begin
        return self

    def answer(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Answers:
        """What it says to each query about each pair; differentiable in the images, in the second if `second_grad`."""
        return self._read(first, second, _in_order(len(first)), queries, second_grad)

    def answer_both_orders(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> tuple[Answers, Answers]:
        """`answer` of (first, second) and of (second, first); each image is seen once."""
        pairs = _in_order(len(first))
        both = self._read(first, second, pairs + [(j, i) for i, j in pairs], [*queries, *queries], second_grad)
        yes, no = both.log_yes_BK.chunk(2), both.log_no_BK.chunk(2)
        forward, backward = (Answers(log_yes_BK=y, log_no_BK=n) for y, n in zip(yes, no, strict=True))
        return forward, backward

    def log_odds(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """log P(yes) - log P(no), `log_odds_BK`."""
        return self.answer(first, second, queries, second_grad=second_grad).log_odds_BK

    def prob_yes(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """P("yes": the first image is better), `prob_BK` (y = r(x_theta, x_ref, q), Eq. 4)."""
        return self.answer(first, second, queries, second_grad=second_grad).prob_yes_BK(self.contract.probability)

    def prob_yes_both_orders(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """The mean of P(yes | first, second) and 1 - P(yes | second, first), `prob_BK`."""
        both = self.answer_both_orders(first, second, queries, second_grad=second_grad)
        forward_BK, backward_BK = (answers.prob_yes_BK(self.contract.probability) for answers in both)
        return (forward_BK + 1 - backward_BK) / 2

    def log_odds_both_orders(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """`log_odds` of (first, second) and of (second, first), as Eq. 3 asks."""
        forward, backward = self.answer_both_orders(first, second, queries)
        return forward.log_odds_BK, backward.log_odds_BK

    def logits(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """`logits_BKV` of the word that answers each query, NaN where a pair has fewer than K queries."""
        logits_BKV, asked_BK = self._logits(first, second, _in_order(len(first)), queries, second_grad)
        return logits_BKV.masked_fill(~asked_BK[..., None], torch.nan)

    def _read(
        self,
        first: Images,
        second: Images,
        shown: Sequence[tuple[int, int]],
        queries: Sequence[Sequence[str]],
        second_grad: bool,
    ) -> Answers:
        logits_BKV, asked_BK = self._logits(first, second, shown, queries, second_grad)
        at_least_single = torch.promote_types(logits_BKV.dtype, torch.float32)
        log_prob_BKV = logits_BKV.to(at_least_single).log_softmax(-1)
        yes, no = (log_prob_BKV[..., answer].masked_fill(~asked_BK, torch.nan) for answer in self.answer_ids)
        return Answers(log_yes_BK=yes, log_no_BK=no)

    def _logits(
        self,
        first: Images,
        second: Images,
        shown: Sequence[tuple[int, int]],
        queries: Sequence[Sequence[str]],
        second_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        if not 0 < len(first) == len(second) or len(queries) != len(shown) or not all(queries):
            raise ValueError(
                f"got {len(first)} first and {len(second)} second images and queries {queries!r}, expected as many of "
                "each, and at least one query about every pair"
            )
        (first_ND, first_grids), (second_ND, second_grids) = (self._patches(images) for images in (first, second))
        grids = first_grids + second_grids
        packed = self._pack(queries, [[grids[place] for place in pair] for pair in shown]).to(self.model.device)
        images = ((first_ND, self._grid_thw(first_grids)), (second_ND, self._grid_thw(second_grids)))
        return self.reader(*images, shown, packed, second_grad), packed.asked_BK

    def _patches(self, images: Images) -> tuple[Tensor, list[Grid]]:
        device = self.model.device
        moved = images.to(device) if isinstance(images, Tensor) else [image.to(device) for image in images]
        return patches_of(moved, self.pixels)

    def _grid_thw(self, grids: Sequence[Grid]) -> Tensor:
        return grid_thw(grids, self.pixels).to(self.model.device)

    def _pack(self, queries: Sequence[Sequence[str]], grids: Sequence[Sequence[Grid]]) -> Pack:
        texts = [self._text(query, own) for sample, own in zip(queries, grids, strict=True) for query in sample]
        tokens = iter(self.tokenizer(texts, add_special_tokens=False)["input_ids"])
        return pack(
            [[next(tokens) for _ in sample] for sample in queries],
            grids,
            image_token=self.model.config.image_token_id,
            pad=self.tokenizer.pad_token_id,
        )

    def _text(self, query: str, grids: Sequence[Grid]) -> str:
        """The chat with the query, each image's placeholder as often as it takes tokens."""
        images = [self._image_token * (rows * columns) for rows, columns in grids]
        before, between, after = self._chat
        return f"{before}{images[0]}{between}{images[1]}{after.replace(_QUERY, self._defused(query))}"

    def _defused(self, query: str) -> str:
        """The query, a space inside whatever the tokenizer would take for a mark of its own (`<|image_pad|>`).

        A prompt is what people typed; it shows no further image and ends no turn.
        """
        return self._marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", query)


def _in_order(pairs: int) -> list[tuple[int, int]]:
    """Each first image before its second one."""
    return [(b, pairs + b) for b in range(pairs)]


def _chat_of(tokenizer: PreTrainedTokenizerBase, image_token: str) -> tuple[str, str, str]:
    """The tokenizer's own chat format around two images, `_QUERY` standing for the question."""
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": _QUERY}]
    if tokenizer.chat_template is None:
        text = CHAT.format(image=image_token, query=_QUERY)
    else:
        chat = [{"role": "user", "content": content}]
        try:
            text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        except (TypeError, TemplateError) as error:
            raise ValueError(f"the judge's chat template takes no images ({error}): {_TAKE_ANOTHER}") from error
    parts = text.split(image_token)
    if len(parts) != 3 or _QUERY not in parts[2]:
        shows = f"shows {len(parts) - 1} images where two were given, then the question"
        raise ValueError(f"the judge's chat template {shows}: {_TAKE_ANOTHER}")
    before, between, after = parts
    return before, between, after


def _image_token(tokenizer: PreTrainedTokenizerBase, image_token_id: int) -> str:
    token: str | None = tokenizer.convert_ids_to_tokens(image_token_id)
    if token is None or not tokenizer.encode("a", add_special_tokens=False):
        raise ValueError(
            f"the judge's tokenizer has {len(tokenizer)} words and {'no letters' if token else 'none for an image'}: "
            f"its folder has no tokenizer.json, or another model's; {_TAKE_ANOTHER}"
        )
    return token


def _single_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"the judge's answer {word!r} is {len(ids)} tokens in its vocabulary, expected one: name another pair, "
            'for example answers=("Yes", "No")'
        )
    return ids[0]
