"""Small vocabularies in the editor's real tokenizer classes: each toy word and each spelt letter is one token.

Both keep the special tokens' meaning of the originals, so `CLIPTextModel` and `T5EncoderModel` take them unchanged:
set `CLIPTextConfig.eos_token_id` to the tokenizer's (the pooled output is read there, and never at an unknown
character, which has a token of its own) and each `vocab_size` to `len(tokenizer)`.
"""

import string
from collections.abc import Sequence

from tokenizers import AddedToken
from transformers import CLIPTokenizer, T5Tokenizer

_CHARACTERS = string.digits + string.ascii_letters + string.punctuation
_CHARACTER_SCORE = -10.0  # a word of the list (score -1) always beats being spelt


def toy_clip_tokenizer(words: Sequence[str], *, max_length: int = 16) -> CLIPTokenizer:
    """A `CLIPTokenizer` in which each of `words` is one token and other words are spelt, lower-cased.

    `max_length` is its `model_max_length`, to which FLUX pads: also CLIPTextConfig's `max_position_embeddings`.
    The words are added tokens rather than merges, because a merge would also join letters of spelt words.
    """
    symbols = [c for c in _CHARACTERS if c not in string.ascii_uppercase]
    vocabulary = [*symbols, *(f"{symbol}</w>" for symbol in symbols), "<|unknown|>", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=[],
        unk_token="<|unknown|>",
        model_max_length=max_length,
    )
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in dict.fromkeys(words)])
    return tokenizer


def toy_t5_tokenizer(words: Sequence[str], *, max_length: int = 16) -> T5Tokenizer:
    """A `T5Tokenizer` in which each of `words` is one token and other words are spelt, case kept."""
    pieces = [f"▁{word}" for word in dict.fromkeys(words) if len(word) > 1]
    singles = [*_CHARACTERS, "▁", *(f"▁{character}" for character in _CHARACTERS)]
    return T5Tokenizer(
        vocab=[
            *((special, 0.0) for special in ("<pad>", "</s>", "<unk>")),
            *((piece, -1.0) for piece in pieces),
            *((single, _CHARACTER_SCORE) for single in singles),
        ],
        extra_ids=0,
        model_max_length=max_length,
    )
