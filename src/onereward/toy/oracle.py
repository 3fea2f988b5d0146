"""The oracle of the toy world: it knows each scene's truth, scores an edit per dimension, and votes by those scores.

Scores are in [0, 1], higher is better. Every score looks at the masked region only; what lies outside is the source's.

- text alignment: an object has the asked hue and the asked shape; each letter of a sign reads as the asked one.
- consistency: what is not object or plate continues the true background, weighted towards the seam.
- structure: the object is some clean template shape; each letter is some clean glyph; a continued background has the
  true background's amount of detail.
- aesthetics: the house taste. Vivid, large, centred objects; strong contrast and even paper; vivid backgrounds.
- removal quality: nothing is left or added: the region is the true background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from PIL import Image
from scipy import ndimage

from onereward.store.images import decode_image
from onereward.terms import Candidate, Dimension, Task, Triplet, Vote, VoterKind, dimensions_of
from onereward.toy.scenes import (
    HUES,
    LETTER_HEIGHT,
    LETTER_WIDTH,
    LETTERS,
    PLATE_MARGIN,
    SHAPES,
    SIZE,
    Floats,
    Mask,
    Scene,
    Sign,
    ToyObject,
    glyph_alpha,
    scene_of,
    shape_alpha,
)

DEAD_BAND: Mapping[Dimension, float] = MappingProxyType(
    {
        Dimension.TEXT_ALIGNMENT: 0.10,
        Dimension.CONSISTENCY: 0.03,
        Dimension.STRUCTURE: 0.07,
        Dimension.AESTHETICS: 0.05,
        Dimension.REMOVAL_QUALITY: 0.08,
    }
)
"""Differences up to this are negligible: a vote is a skip, a comparison is "same"."""

_NEAR = 8.0  # pixels over which the seam's weight falls to 1/e
_ERROR_SCALE = 0.10  # mean absolute RGB error, in [0, 1] units, at which consistency falls to 1/e
_BLUR = 1.0  # pixels; fine texture cannot be guessed and is not asked for


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The object found in an edit: soft coverage, and the template of equal area that fits best."""

    coverage_HW: Floats
    area: float
    cx: float
    cy: float
    overlaps: Mapping[str, float]

    @property
    def shape(self) -> str:
        return max(self.overlaps, key=lambda shape: self.overlaps[shape])


class ToyOracle:
    """Scores edits of toy scenes from their truth, and votes best and worst by those scores. Never called human."""

    name = "toy-oracle"
    revision = f"scores 1, dead bands {dict(DEAD_BAND)}"
    kind = VoterKind.ORACLE
    dead_band = DEAD_BAND

    def __call__(self, triplet: Triplet, image: Image.Image) -> dict[Dimension, float]:
        """Score per dimension of the triplet's task; ValueError if the triplet is no toy scene or the size differs."""
        scene = scene_of(triplet.id)
        if image.size != (SIZE, SIZE):
            raise ValueError(f"{triplet.id}: the edit is {image.size[0]}x{image.size[1]}, toy scenes are {SIZE}x{SIZE}")
        return score_edit(scene, np.asarray(image.convert("RGB"), np.float64) / 255.0)

    def vote(self, triplet: Triplet, candidates: Sequence[Candidate]) -> list[Vote]:
        """Best and worst of N per dimension; a skip where they differ by no more than the dead band (Fig. 2)."""
        scores = [self(triplet, decode_image(candidate.image)) for candidate in candidates]
        votes = []
        for dimension in dimensions_of(triplet.task, triplet.prompt):
            values = [score[dimension] for score in scores]
            best, worst = int(np.argmax(values)), int(np.argmin(values))
            negligible = values[best] - values[worst] <= DEAD_BAND[dimension]
            votes.append(
                Vote(
                    triplet_id=triplet.id,
                    dimension=dimension,
                    best=None if negligible else candidates[best].index,
                    worst=None if negligible else candidates[worst].index,
                    voter=self.name,
                    kind=self.kind,
                )
            )
        return votes


def score_edit(scene: Scene, edit_HW3: Floats) -> dict[Dimension, float]:
    """Score per dimension of one edit, RGB in [0, 1]."""
    background = scene.background_HW3 / 255.0
    if scene.task is Task.REMOVE:
        return {Dimension.REMOVAL_QUALITY: _removal(scene.mask_HW, background, edit_HW3)}
    if scene.sign is not None:
        return _sign_scores(scene, scene.sign, background, edit_HW3)
    if scene.object is not None:
        return _object_scores(scene, scene.object, background, edit_HW3)
    return _background_scores(scene, background, edit_HW3)


def find_figure(mask_HW: Mask, background_HW3: Floats, edit_HW3: Floats) -> Figure:
    """Segment what differs from the true background and fit every template at equal area."""
    difference = np.linalg.norm(edit_HW3 - background_HW3, axis=2)
    difference = ndimage.gaussian_filter(difference, 0.5)
    coverage = np.clip((difference - 0.2) / 0.2, 0.0, 1.0) * mask_HW
    coverage = _largest_part(coverage)
    area = float(coverage.sum())
    if area < 4.0:
        return Figure(coverage_HW=coverage, area=area, cx=0.0, cy=0.0, overlaps=dict.fromkeys(SHAPES, 0.0))
    rows, columns = np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5
    cx = float((coverage.sum(0) * columns).sum() / area)
    cy = float((coverage.sum(1) * rows).sum() / area)
    overlaps = {}
    for shape in SHAPES:
        template = shape_alpha(shape, cx, cy, float(np.sqrt(area / _unit_area(shape)))) * mask_HW
        overlaps[shape] = float(np.minimum(coverage, template).sum() / np.maximum(coverage, template).sum())
    return Figure(coverage_HW=coverage, area=area, cx=cx, cy=cy, overlaps=overlaps)


def read_letters(sign: Sign, edit_HW3: Floats) -> list[dict[str, float]]:
    """For each letter's place, the best normalised correlation (within 2 pixels) with every glyph."""
    return [
        {letter: _glyph_match(edit_HW3, sign, place, letter) for letter in LETTERS} for place in range(len(sign.word))
    ]


def _largest_part(coverage_HW: Floats) -> Floats:
    labels, count = ndimage.label(coverage_HW > 0.3, structure=np.ones((3, 3)))
    if count <= 1:
        return coverage_HW
    sizes = ndimage.sum_labels(coverage_HW, labels, np.arange(1, count + 1))
    keep = ndimage.binary_dilation(labels == 1 + int(np.argmax(sizes)), iterations=2)
    return np.asarray(coverage_HW * keep, np.float64)


@cache
def _unit_area(shape: str) -> float:
    """Area of a template of radius 1, measured at radius 20."""
    return float(shape_alpha(shape, SIZE / 2, SIZE / 2, 20.0).sum() / 400.0)


def _seam_weight(mask_HW: Mask) -> Floats:
    """1 at the border between old and new, falling inwards; 0 outside the mask."""
    distance = np.asarray(ndimage.distance_transform_edt(mask_HW), np.float64)
    return np.where(mask_HW, np.exp(-(distance - 1.0) / _NEAR), 0.0)


def _mean_error(weight_HW: Floats, background_HW3: Floats, edit_HW3: Floats) -> float:
    """Weighted mean absolute difference, in [0, 1] units, slightly blurred; where the weight is 0 nothing bleeds in."""
    counted = (edit_HW3 - background_HW3) * (weight_HW > 0)[..., None]
    smooth = ndimage.gaussian_filter(counted, (_BLUR, _BLUR, 0.0))
    total = float(weight_HW.sum())
    return float((weight_HW * abs(smooth).mean(2)).sum() / total) if total > 0 else 0.0


def _consistency(weight_HW: Floats, background_HW3: Floats, edit_HW3: Floats) -> float:
    return float(np.exp(-_mean_error(weight_HW, background_HW3, edit_HW3) / _ERROR_SCALE))


def _seam_clearance(mask_HW: Mask, coverage_HW: Floats) -> float:
    """1 if the figure keeps clear of the border between old and new, 0 if it lies all along it (a plain patch)."""
    border = mask_HW & ~ndimage.binary_erosion(mask_HW, iterations=2, border_value=1)
    return float(1.0 - coverage_HW[border].mean()) if border.any() else 1.0


def _object_scores(scene: Scene, asked: ToyObject, background: Floats, edit: Floats) -> dict[Dimension, float]:
    mask = scene.mask_HW
    figure = find_figure(mask, background, edit)
    clearance = _seam_clearance(mask, figure.coverage_HW) ** 2
    expected = float(_unit_area(asked.shape) * asked.radius**2)
    present = clearance * float(np.clip(figure.area / (0.25 * expected), 0.0, 1.0))
    hue, saturation = _hue_and_saturation(figure, edit)
    hue_error = abs((hue - HUES[asked.colour] + 180.0) % 360.0 - 180.0)
    colour = float(np.exp(-((hue_error / 25.0) ** 2)) * np.clip(saturation / 0.3, 0.0, 1.0))
    best_overlap = figure.overlaps[figure.shape]
    template = shape_alpha(
        figure.shape, figure.cx, figure.cy, float(np.sqrt(max(figure.area, 1.0) / _unit_area(figure.shape)))
    )
    outside_object = mask & ~ndimage.binary_dilation(template > 0.1, iterations=2)
    weight = _seam_weight(mask) * outside_object
    if weight.sum() < 0.1 * _seam_weight(mask).sum():
        weight = _seam_weight(mask)
    return {
        Dimension.TEXT_ALIGNMENT: present * (0.5 * colour + 0.5 * _rescale(figure.overlaps[asked.shape], 0.5, 0.95)),
        Dimension.CONSISTENCY: _consistency(weight, background, edit),
        Dimension.STRUCTURE: present * _rescale(best_overlap, 0.5, 0.95),
        Dimension.AESTHETICS: present * _object_taste(mask, figure, saturation),
    }


def _object_taste(mask_HW: Mask, figure: Figure, saturation: float) -> float:
    """Half vividness, a quarter size (up to 45 % of the region), a quarter centring."""
    ys, xs = np.nonzero(mask_HW)
    region = float(mask_HW.sum())
    reach = 0.5 * np.sqrt(region)
    off_centre = float(np.hypot(figure.cx - xs.mean() - 0.5, figure.cy - ys.mean() - 0.5)) / reach
    size = min(1.0, figure.area / (0.45 * region))
    return float(0.5 * saturation + 0.25 * size + 0.25 * max(0.0, 1.0 - off_centre))


def _hue_and_saturation(figure: Figure, edit_HW3: Floats) -> tuple[float, float]:
    """Of the figure's mean colour, by HSV's definition; hue in degrees."""
    if figure.area < 4.0:
        return 0.0, 0.0
    core = figure.coverage_HW**2
    red, green, blue = (core[..., None] * edit_HW3).sum((0, 1)) / core.sum()
    high, low = max(red, green, blue), min(red, green, blue)
    chroma = float(high - low)
    hue = float(np.degrees(np.arctan2(np.sqrt(3.0) * (green - blue), 2 * red - green - blue))) % 360.0
    return hue, chroma / float(high) if high > 0.05 else 0.0


def _sign_scores(scene: Scene, sign: Sign, background: Floats, edit: Floats) -> dict[Dimension, float]:
    matches = read_letters(sign, edit)
    aligned, clean = [], []
    for asked, match in zip(sign.word, matches, strict=True):
        rival = max(value for letter, value in match.items() if letter != asked)
        aligned.append(1.0 / (1.0 + np.exp(-(match[asked] - rival) / 0.08)) * _rescale(match[asked], 0.3, 0.9))
        clean.append(_rescale(max(match.values()), 0.4, 0.97))
    plate = np.zeros((SIZE, SIZE), bool)
    plate[sign.top : sign.top + sign.height, sign.left : sign.left + sign.width] = True
    weight = _seam_weight(scene.mask_HW) * ~ndimage.binary_dilation(plate)
    return {
        Dimension.TEXT_ALIGNMENT: float(np.mean(aligned)),
        Dimension.CONSISTENCY: _consistency(weight, background, edit),
        Dimension.STRUCTURE: float(np.mean(clean)),
        Dimension.AESTHETICS: _sign_taste(sign, edit),
    }


def _sign_taste(sign: Sign, edit_HW3: Floats) -> float:
    """Contrast of ink and paper times the evenness of the paper along the plate's margin."""
    plate = edit_HW3[sign.top : sign.top + sign.height, sign.left : sign.left + sign.width].mean(2)
    margin = np.ones(plate.shape, bool)
    margin[PLATE_MARGIN:-PLATE_MARGIN, PLATE_MARGIN:-PLATE_MARGIN] = False
    paper = plate[margin]
    ink = np.quantile(plate[~margin], 0.1)
    contrast = float(np.clip(paper.mean() - ink, 0.0, 1.0))
    return contrast * float(np.exp(-paper.std() / 0.15))


def _glyph_match(edit_HW3: Floats, sign: Sign, place: int, letter: str) -> float:
    glyph = glyph_alpha(letter)
    glyph = glyph - glyph.mean()
    left = sign.left + PLATE_MARGIN + place * LETTER_WIDTH
    top = sign.top + PLATE_MARGIN
    best = 0.0
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            cell = edit_HW3[top + dy : top + dy + LETTER_HEIGHT, left + dx : left + dx + LETTER_WIDTH].mean(2)
            dark = cell.mean() - cell
            norm = float(np.sqrt((dark**2).sum() * (glyph**2).sum()))
            best = max(best, float((dark * glyph).sum()) / norm if norm > 0.5 else 0.0)
    return best


def _background_scores(scene: Scene, background: Floats, edit: Floats) -> dict[Dimension, float]:
    """An extend without a prompt: only the background goes on."""
    mask = scene.mask_HW
    detail, true_detail = _detail(mask, edit), _detail(mask, background)
    seam = _seam_weight(mask)
    return {
        Dimension.CONSISTENCY: _consistency(seam, background, edit),
        Dimension.STRUCTURE: float(np.exp(-abs(np.log((detail + 0.02) / (true_detail + 0.02))))),
        Dimension.AESTHETICS: float(np.clip(_chroma(mask, edit) / 0.35, 0.0, 1.0)),
    }


def _detail(mask_HW: Mask, image_HW3: Floats) -> float:
    """Root mean square gradient inside the region and across its seam, of the brightness blurred by one pixel."""
    bright = ndimage.gaussian_filter(image_HW3.mean(2), 0.7)
    region = ndimage.binary_dilation(mask_HW, iterations=2)
    gradient = np.hypot(np.gradient(bright, axis=0), np.gradient(bright, axis=1))
    return float(np.sqrt((gradient[region] ** 2).mean()))


def _chroma(mask_HW: Mask, image_HW3: Floats) -> float:
    """Mean of (largest - smallest channel) inside the region."""
    smooth = ndimage.gaussian_filter(image_HW3, (_BLUR, _BLUR, 0.0))
    return float((smooth.max(2) - smooth.min(2))[mask_HW].mean())


def _removal(mask_HW: Mask, background: Floats, edit: Floats) -> float:
    """Mean error over the whole region, and the share of it where something stands out from the true background."""
    even = mask_HW.astype(np.float64)
    residue = find_figure(mask_HW, background, edit).area / even.sum()
    return _consistency(even, background, edit) * float(np.exp(-residue / 0.3))


def _rescale(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))
