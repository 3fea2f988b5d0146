from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, CLIPTokenizer, PreTrainedTokenizerBase, T5Tokenizer

from onereward.toy.tokenizers import toy_clip_tokenizer, toy_t5_tokenizer

WORDS = ["a", "red", "star", "sign", "that", "says", "remove", "high-definition", "perfect", "composition"]
LONGEST = 'a sign that says "CAB"'


def test_clip_makes_one_token_of_a_word_and_of_each_letter() -> None:
    tokenizer = toy_clip_tokenizer(WORDS)
    assert tokenizer.tokenize("a red star") == ["a", "red", "star"]
    assert tokenizer.tokenize(LONGEST) == ["a", "sign", "that", "says", '"</w>', "c", "a", "b</w>", '"</w>']
    assert tokenizer.tokenize("high-definition, perfect composition") == [
        "high-definition",
        ",</w>",
        "perfect",
        "composition",
    ]


def test_t5_makes_one_token_of_a_word_and_of_each_letter() -> None:
    tokenizer = toy_t5_tokenizer(WORDS)
    assert tokenizer.tokenize("a red star") == ["▁a", "▁red", "▁star"]
    assert tokenizer.tokenize(LONGEST) == ["▁a", "▁sign", "▁that", "▁says", '▁"', "C", "A", "B", '"']
    assert tokenizer.tokenize("high-definition, perfect composition") == [
        "▁high-definition",
        ",",
        "▁perfect",
        "▁composition",
    ]


def test_letters_are_not_the_article_and_do_not_merge_into_words() -> None:
    assert "▁a" not in toy_t5_tokenizer(WORDS).tokenize('"A"')
    assert toy_clip_tokenizer(WORDS).tokenize('"A"') == ['"</w>', "a</w>", '"</w>']
    assert toy_clip_tokenizer(WORDS).tokenize("redstar") == [*"redsta", "r</w>"]


def test_clip_pools_at_the_end_even_after_an_unknown_character() -> None:
    tokenizer = toy_clip_tokenizer(WORDS)
    ids = tokenizer("a é star").input_ids
    assert tokenizer.eos_token_id != 2  # 2 is the legacy case of CLIPTextModel, which pools at the largest id
    assert ids.index(tokenizer.eos_token_id) == len(ids) - 1


@pytest.mark.parametrize(("build", "kind"), [(toy_clip_tokenizer, CLIPTokenizer), (toy_t5_tokenizer, T5Tokenizer)])
def test_round_trip_through_auto_tokenizer(
    tmp_path: Path, build: Callable[[list[str]], PreTrainedTokenizerBase], kind: type
) -> None:
    tokenizer = build(WORDS)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, kind)
    assert len(loaded) == len(tokenizer) and loaded.model_max_length == 16
    for text in (LONGEST, "a blue é star, unseen Words!", "", "remove", "a\n  red  star"):
        padded = loaded(text, padding="max_length", max_length=16, truncation=True)
        assert padded.input_ids == tokenizer(text, padding="max_length", max_length=16, truncation=True).input_ids
        assert max(padded.input_ids) < len(tokenizer)
    assert len(tokenizer(LONGEST).input_ids) <= 11
