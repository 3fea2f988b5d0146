"""A second teacher for the vision tower alone: what lies in each 4x4 cell of an image, read off its tokens linearly.

Six answers a pair teach a vision tower slowly; these targets are hundreds of numbers an image. The heads are thrown
away after pretraining.

Shape legend: B images, T = 16 tokens of 16x16 pixels, G = 16 cells of 4x4 pixels in a token, C the tower's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce
from pictures import DEFECTS, Picture, Rendered
from torch import Tensor, nn
from torch.nn import functional

from onereward.toy.scenes import HUES, LETTER_HEIGHT, LETTER_WIDTH, LETTERS, PLATE_MARGIN, SHAPES, SIZE

_CELL, _SIDE = 4, 4
_NUMBERS = ("radius", "saturation", "value", "cx", "cy")
_IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Per cell: coverage, colour behind it, damage, letter; per image: classes, and numbers (NaN where none)."""

    coverage_BTG: Tensor
    behind_BTG3: Tensor
    damage_BTG: Tensor
    letter_BTG: Tensor
    shape_B: Tensor
    colour_B: Tensor
    defect_B: Tensor
    numbers_BN: Tensor


class Heads(nn.Module):
    """Linear read-outs of the tower's tokens and of their mean."""

    def __init__(self, width: int) -> None:
        super().__init__()
        cells = _CELL * _CELL
        self.coverage = nn.Linear(width, cells)
        self.behind = nn.Linear(width, cells * 3)
        self.letter = nn.Linear(width, cells * (len(LETTERS) + 1))
        self.shape = nn.Linear(width, len(SHAPES) + 1)
        self.colour = nn.Linear(width, len(HUES) + 1)
        self.defect = nn.Linear(width, len(DEFECTS) + 1)
        self.numbers = nn.Linear(width, len(_NUMBERS) + 3)
        self.damage = nn.Linear(width, cells)

    def losses(self, tokens_BTC: Tensor, targets: Targets) -> dict[str, Tensor]:
        mean_BC = tokens_BTC.mean(1)
        behind = rearrange(self.behind(tokens_BTC), "b t (g c) -> b t g c", c=3)
        letter = rearrange(self.letter(tokens_BTC), "b t (g v) -> (b t g) v", v=len(LETTERS) + 1)
        numbers = self.numbers(mean_BC)
        known = ~targets.numbers_BN.isnan()
        return {
            "coverage": functional.binary_cross_entropy_with_logits(self.coverage(tokens_BTC), targets.coverage_BTG),
            "behind": 8 * (behind - targets.behind_BTG3).abs().mean(),
            "damage": 12 * (self.damage(tokens_BTC) - targets.damage_BTG).abs().mean(),
            "letter": 3 * functional.cross_entropy(letter, targets.letter_BTG.flatten()),
            "shape": functional.cross_entropy(self.shape(mean_BC), targets.shape_B, ignore_index=_IGNORED),
            "colour": functional.cross_entropy(self.colour(mean_BC), targets.colour_B, ignore_index=_IGNORED),
            "defect": 0.5 * functional.cross_entropy(self.defect(mean_BC), targets.defect_B),
            "numbers": 3 * (numbers - targets.numbers_BN)[known].abs().mean(),
        }


def targets_of(pictures: Sequence[Picture], rendered: Sequence[Rendered]) -> Targets:
    """The targets of a batch of pictures."""
    coverage = torch.from_numpy(np.stack([image.coverage_HW for image in rendered])).float()
    behind = torch.from_numpy(np.stack([image.background_HW3 for image in rendered])).float()
    damage = torch.from_numpy(np.stack([image.damage_HW for image in rendered])).float()
    letters = torch.from_numpy(np.stack([_letters(picture) for picture in pictures]))
    cells = "(ty gy py) (tx gx px)"
    sides = {"gy": _SIDE, "gx": _SIDE, "py": _CELL, "px": _CELL}
    return Targets(
        coverage_BTG=reduce(coverage, f"b {cells} -> b (ty tx) (gy gx)", "mean", **sides),
        behind_BTG3=reduce(behind, f"b {cells} c -> b (ty tx) (gy gx) c", "mean", **sides),
        damage_BTG=reduce(damage, f"b {cells} -> b (ty tx) (gy gx)", "mean", **sides),
        letter_BTG=rearrange(letters, "b (ty gy) (tx gx) -> b (ty tx) (gy gx)", gy=_SIDE, gx=_SIDE),
        shape_B=torch.tensor([_class(picture, "shape", list(SHAPES)) for picture in pictures]),
        colour_B=torch.tensor([_class(picture, "colour", list(HUES)) for picture in pictures]),
        defect_B=torch.tensor([["", *DEFECTS].index(picture.defect or "") for picture in pictures]),
        numbers_BN=torch.tensor([_numbers(picture) for picture in pictures]),
    )


def _letters(picture: Picture) -> np.ndarray:
    """1 + the number of the letter under each cell's centre, 0 where there is none or it cannot be told."""
    letters = np.zeros((SIZE // _CELL, SIZE // _CELL), np.int64)
    sign = picture.scene.sign
    if picture.word is None or sign is None or picture.warp > 3 or picture.strength < 0.3:
        return letters
    centres = (np.arange(SIZE // _CELL) + 0.5) * _CELL
    top = sign.top + PLATE_MARGIN
    rows = (centres >= top) & (centres < top + LETTER_HEIGHT)
    for place, letter in enumerate(picture.word):
        left = sign.left + PLATE_MARGIN + place * LETTER_WIDTH
        columns = (centres >= left) & (centres < left + LETTER_WIDTH)
        letters[np.ix_(rows, columns)] = 1 + LETTERS.index(letter)
    return letters


def _class(picture: Picture, field: str, names: list[str]) -> int:
    """0 for no object; a faint or badly warped one is not asked for."""
    if picture.thing is None:
        return 0
    told = picture.strength > 0.3 and (picture.warp < 3 or field == "colour")
    return 1 + names.index(getattr(picture.thing, field)) if told else _IGNORED


def _numbers(picture: Picture) -> list[float]:
    """Each about in [0, 1]: the object's measures, then warp and strength of the drawing, degree of the defect."""
    ranges = {"radius": 15.0, "cx": float(SIZE), "cy": float(SIZE)}
    thing = picture.thing if picture.strength > 0.3 else None
    drawn = picture.thing is not None or picture.word is not None
    return [
        *(float("nan") if thing is None else getattr(thing, name) / ranges.get(name, 1.0) for name in _NUMBERS),
        picture.warp / 5 if drawn and picture.strength > 0.3 else float("nan"),
        picture.strength if drawn else 0.0,
        picture.degree,
    ]
