"""The judge of two finished images."""

from pathlib import Path

import pytest
from PIL import Image

import onereward
from tests.pictures import noise
from tests.tiny_judge import tiny_judge_folder

PROMPT = "a red star"


def test_the_judge_of_two_finished_images(tmp_path: Path) -> None:
    judge = onereward.load_judge(str(tiny_judge_folder(tmp_path)))
    first, second = noise(112, 56), noise(112, 56).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    better = judge.prob_better(first, second, "fill", "structure", PROMPT)
    assert 0 < better < 1 and better != 0.5
    assert judge.prob_better(second, first, "fill", "structure", PROMPT) == pytest.approx(1 - better, abs=1e-6)
    assert judge.prob_better(first, first, "fill", "structure", PROMPT) == pytest.approx(0.5, abs=1e-6)
    assert judge.prob_better(first, second, "remove", "removal_quality", "") != better
    with pytest.raises(ValueError, match="unknown dimension 'beauty'; the dimensions are text_alignment"):
        judge.prob_better(first, second, "fill", "beauty", PROMPT)
    with pytest.raises(ValueError, match="the two images are 112x56 and 56x112"):
        judge.prob_better(first, noise(56, 112), "fill", "structure", PROMPT)
