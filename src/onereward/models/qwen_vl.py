"""The judge: Qwen2.5-VL asked whether the first of two images is better; its P("yes") is the reward (Eq. 2, Fig. 3).

One road for training, RL and scoring: the vision tower sees each image once, all queries about a pair travel in one
packed sequence, and the logits after `assistant` are read. Only `forward` is used (`generate` would apply the
checkpoint's repetition penalty).

Shape legend: B pairs, H W pixels, T vision tokens of one image, C the language model's width, K queries of a pair,
V vocabulary.
"""

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutputWithPooling

from onereward.models.qwen_pack import Pack, pack
from onereward.models.qwen_pixels import PixelRules, grid_thw, to_patches

_IMAGE = "<|vision_start|>{image}<|vision_end|>"
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n" + _IMAGE + _IMAGE + "{query}<|im_end|>\n<|im_start|>assistant\n"
)
"""Qwen2.5-VL's own chat format for two images and a question, up to where the answer begins."""


class Probability(StrEnum):
    """P("yes") over the whole vocabulary (`full`) or over the two answers (`binary`); the paper does not say which."""

    FULL = "full"
    BINARY = "binary"


class QwenVLJudge:
    """r_phi on the stock `Qwen2_5_VLForConditionalGeneration` (implements `Judge`).

    `answers` are the words for "the first is better" and "it is not", one token each. `probability` defaults to
    `binary`: then P(yes) of a pair and of the swapped pair are comparable and no gradient is spent on other words;
    `outside_mass` reports what it leaves out. Raises ValueError for an answer of several tokens.
    """

    def __init__(
        self,
        model: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        pixels: PixelRules,
        *,
        answers: tuple[str, str] = ("yes", "no"),
        probability: Probability = Probability.BINARY,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pixels = pixels
        self.probability = probability
        self.answer_ids = tuple(_single_token(tokenizer, answer) for answer in answers)
        self._image_token: str = tokenizer.convert_ids_to_tokens(model.config.image_token_id)

    def freeze(self) -> "QwenVLJudge":
        """No parameter takes a gradient from now on (they still pass one to the images); returns the judge."""
        self.model.requires_grad_(False).eval()
        return self

    def log_odds(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """log P(yes) - log P(no), `log_odds_BK`, NaN where a sample has fewer than K queries.

        Images in [-1, 1], one size; differentiable in them, in the second only if `second_grad`.
        """
        yes, no = self._answers(first_B3HW, second_B3HW, queries, second_grad)
        return yes - no

    def prob_yes(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """P("yes": the first image is better), `prob_BK` (y = r(x_theta, x_ref, q), Eq. 4); as `log_odds` otherwise."""
        yes, no = self._answers(first_B3HW, second_B3HW, queries, second_grad)
        return yes.exp() if self.probability is Probability.FULL else (yes - no).sigmoid()

    def prob_yes_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], *, second_grad: bool = True
    ) -> Tensor:
        """The mean of P(yes | first, second) and P(no | second, first), `prob_BK`; each image is seen once."""
        yes, no = self._answers_both_orders(first_B3HW, second_B3HW, queries, second_grad)
        prob_2BK = yes.exp() if self.probability is Probability.FULL else (yes - no).sigmoid()
        forward_BK, backward_BK = prob_2BK.chunk(2)
        return (forward_BK + 1 - backward_BK) / 2

    def outside_mass(self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]]) -> Tensor:
        """The probability of every word but the two answers, `mass_BK`: how far `binary` is from `full`."""
        yes, no = self._answers(first_B3HW, second_B3HW, queries, second_grad=True)
        return 1 - yes.exp() - no.exp()

    def log_odds_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """`log_odds` of (first, second) and of (second, first), as Eq. 3 asks; each image is seen once."""
        yes, no = self._answers_both_orders(first_B3HW, second_B3HW, queries, second_grad=True)
        forward, backward = (yes - no).chunk(2)
        return forward, backward

    def see(self, image_B3HW: Tensor) -> Tensor:
        """What the vision tower makes of each image, `features_BTC`: independent of the order and of the queries.

        The images may lie on any device.
        """
        size, _, height, width = image_B3HW.shape
        patches_BND = to_patches(image_B3HW.to(self.model.device), self.pixels)
        grid = grid_thw(self.pixels, height, width, size).to(self.model.device)
        seen = self.model.model.get_image_features(patches_BND.flatten(0, 1), grid, return_dict=True)
        return torch.stack(tuple(seen.pooler_output))

    def answer_logits(
        self, first_BTC: Tensor, second_BTC: Tensor, queries: Sequence[Sequence[str]], grid: tuple[int, int]
    ) -> Tensor:
        """`logits_BKV` of the word that answers each query, NaN where a sample has fewer than K queries.

        `grid` is the rows and columns of an image's T tokens (`PixelRules.merged_grid`).
        """
        packed = self._pack(queries, grid).to(first_BTC.device)
        features_BTC = torch.stack([first_BTC, second_BTC], dim=1).flatten(0, 2)
        output = self.model(
            input_ids=packed.ids_BL,
            attention_mask=self._mask(packed, first_BTC.dtype),
            position_ids=packed.positions_3BL,
            mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=(features_BTC,))},
            logits_to_keep=packed.last_BK,
            use_cache=False,
        )
        logits_BKV: Tensor = output.logits.masked_fill(~packed.asked_BK[..., None], torch.nan)
        return logits_BKV

    def _answers(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], second_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """log P(yes)_BK and log P(no)_BK over the whole vocabulary."""
        first_BTC, second_BTC = self._see_both(first_B3HW, second_B3HW, second_grad)
        grid = self.pixels.merged_grid(*first_B3HW.shape[-2:])
        return self._log_prob(self.answer_logits(first_BTC, second_BTC, queries, grid))

    def _answers_both_orders(
        self, first_B3HW: Tensor, second_B3HW: Tensor, queries: Sequence[Sequence[str]], second_grad: bool
    ) -> tuple[Tensor, Tensor]:
        """As `_answers`, of the pairs and then of the swapped pairs."""
        first_BTC, second_BTC = self._see_both(first_B3HW, second_B3HW, second_grad)
        pairs_BTC = torch.cat([first_BTC, second_BTC]), torch.cat([second_BTC, first_BTC])
        grid = self.pixels.merged_grid(*first_B3HW.shape[-2:])
        return self._log_prob(self.answer_logits(*pairs_BTC, [*queries, *queries], grid))

    def _see_both(self, first_B3HW: Tensor, second_B3HW: Tensor, second_grad: bool) -> tuple[Tensor, Tensor]:
        first_BTC = self.see(first_B3HW)
        with torch.set_grad_enabled(torch.is_grad_enabled() and second_grad):
            return first_BTC, self.see(second_B3HW)

    def _log_prob(self, logits_BKV: Tensor) -> tuple[Tensor, Tensor]:
        at_least_single = torch.promote_types(logits_BKV.dtype, torch.float32)
        log_prob_BKV = logits_BKV.to(at_least_single).log_softmax(-1)
        yes, no = self.answer_ids
        return log_prob_BKV[..., yes], log_prob_BKV[..., no]

    def _pack(self, queries: Sequence[Sequence[str]], grid: tuple[int, int]) -> Pack:
        image = self._image_token * (grid[0] * grid[1])
        texts = [CHAT.format(image=image, query=query) for sample in queries for query in sample]
        tokens = iter(self.tokenizer(texts, add_special_tokens=False)["input_ids"])
        return pack(
            [[next(tokens) for _ in sample] for sample in queries],
            image_token=self.model.config.image_token_id,
            grid=grid,
            pad=self.tokenizer.pad_token_id,
        )

    def _mask(self, packed: Pack, dtype: torch.dtype) -> Tensor:
        """Boolean for scaled_dot_product_attention, additive for eager attention; flash kernels take no such mask."""
        visible_B1LL = packed.visible()
        if self.model.config.text_config._attn_implementation != "eager":
            return visible_B1LL
        blocked = torch.finfo(dtype).min
        return torch.zeros_like(visible_B1LL, dtype=dtype).masked_fill(~visible_B1LL, blocked)


def _single_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    ids: list[int] = tokenizer.encode(word, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(
            f"the judge's answer {word!r} is {len(ids)} tokens in its vocabulary, expected one: name another pair, "
            'for example answers=("Yes", "No")'
        )
    return ids[0]
