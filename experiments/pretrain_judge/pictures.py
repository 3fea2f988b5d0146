"""Pairs of toy pictures with known visible attributes: what pretraining asks the judge about.

A picture is a scene's background with something drawn into the edited region (an object or a sign, perhaps not what
the prompt said, perhaps warped or faint) and perhaps one defect. Everything that a question may ask is a field; nothing
here knows the oracle, and no editor made any of these pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from onereward.seeds import numpy_generator
from onereward.terms import Task
from onereward.toy.scenes import (
    HELD_OUT_PAIRS,
    HUES,
    LETTERS,
    SHAPES,
    SIZE,
    Floats,
    Scene,
    Sign,
    ToyObject,
    draw_object,
    draw_sign,
    make_scene,
    shape_alpha,
)

DEFECTS = ("blur", "noise", "tint", "patch", "grey", "ripple")
SCENE_COUNT = {"train": 4_000_000, "validation": 4_000}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image with its attributes; `warp` in pixels, `strength` (opacity) and `degree` (of the defect) in [0, 1].

    `where` is the fraction (x, y) of the edited region's centre; `inside` tells whether the defect keeps to the region.
    """

    scene: Scene
    thing: ToyObject | None
    second_thing: ToyObject | None
    word: str | None
    warp: float
    strength: float
    defect: str | None
    degree: float
    inside: bool
    seed: int

    def render(self) -> "Rendered":
        """The image and what of it is drawn, a function of the fields alone."""
        rng = np.random.default_rng(self.seed)
        background = self.scene.background_HW3 / 255.0
        region = self.scene.mask_HW if self.inside else np.ones((SIZE, SIZE), bool)
        image = _damage(background, region, self.defect, self.degree, rng) if self.inside else background
        image, coverage = self._draw(image, rng)
        if not self.inside:
            image = _damage(image, region, self.defect, self.degree, rng)
        return Rendered(pixels_HW3=np.clip(image, 0.0, 1.0), coverage_HW=coverage, background_HW3=background)

    def _draw(self, background: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        drawn, coverage = background, np.zeros((SIZE, SIZE))
        for thing in (self.second_thing, self.thing):
            if thing is not None:
                drawn = draw_object(drawn, thing)
                coverage = np.maximum(coverage, shape_alpha(thing.shape, thing.cx, thing.cy, thing.radius))
        if self.word is not None:
            sign = self.scene.sign
            assert sign is not None
            drawn = draw_sign(drawn, replace(sign, word=self.word), paper=rng.uniform(0.9, 1), ink=rng.uniform(0, 0.15))
            coverage[sign.top : sign.top + sign.height, sign.left : sign.left + sign.width] = 1.0
        mixed = background + self.strength * (drawn - background)
        if self.warp > 0:
            both = np.dstack([mixed, coverage])
            both = np.where(self.scene.mask_HW[..., None], _warped(both, self.warp, rng, scale=5.0), both)
            mixed, coverage = both[..., :3], both[..., 3]
        return mixed, coverage


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A picture as pixels in [0, 1], how much of each pixel is drawn, and what lies behind it all."""

    pixels_HW3: Floats
    coverage_HW: Floats
    background_HW3: Floats

    @property
    def damage_HW(self) -> Floats:
        """Mean absolute difference from the background, beside what is drawn."""
        difference: Floats = np.abs(self.pixels_HW3 - self.background_HW3).mean(-1)
        return difference * (1 - self.coverage_HW)


def make_pair(split: str, *key: int | str) -> tuple[Picture, Picture]:
    """Two pictures keyed by `key`: of one scene mostly, half of these differing in one or two attributes only."""
    rng = numpy_generator("judge-pretraining", split, *key)
    first = _picture(_scene(split, rng), rng)
    if rng.random() < 0.2:
        return first, _picture(_scene(split, rng), rng)
    if rng.random() < 0.5:
        return first, _picture(first.scene, rng)
    second = first
    for _ in range(int(rng.integers(1, 3))):
        second = _with_one_change(second, rng)
    return (first, second) if rng.random() < 0.5 else (second, first)


def _scene(split: str, rng: np.random.Generator) -> Scene:
    return make_scene(split, int(rng.integers(SCENE_COUNT[split])))


def _picture(scene: Scene, rng: np.random.Generator) -> Picture:
    picture = Picture(
        scene=scene,
        thing=None,
        second_thing=None,
        word=None,
        warp=0.0 if rng.random() < 0.5 else rng.uniform(0.5, 5.0),
        strength=1.0 if rng.random() < 0.75 else rng.uniform(0.1, 1.0),
        defect=None,
        degree=0.0,
        inside=bool(rng.random() < 0.75),
        seed=int(rng.integers(1 << 31)),
    )
    picture = _with_defect(picture, rng) if rng.random() < 0.55 else picture
    if scene.sign is not None:
        return replace(picture, word=_word(scene.sign, rng)) if rng.random() < 0.95 else picture
    present = 0.5 if scene.task is Task.REMOVE else 0.8
    thing = _thing(scene, rng) if rng.random() < present else None
    extra = _thing(scene, rng, small=True) if rng.random() < 0.08 else None
    return replace(picture, thing=thing, second_thing=extra)


def _with_one_change(picture: Picture, rng: np.random.Generator) -> Picture:
    fresh = _picture(picture.scene, rng)
    match rng.integers(5):
        case 0:
            return _with_defect(picture, rng)
        case 1:
            return replace(picture, degree=rng.uniform(0.15, 1.0) if picture.defect else 0.0)
        case 2:
            return replace(picture, warp=fresh.warp, strength=fresh.strength)
        case 3 if picture.thing is not None:
            return replace(picture, thing=_changed(picture.thing, rng))
        case _:
            return replace(picture, thing=fresh.thing, second_thing=fresh.second_thing, word=fresh.word)


def _with_defect(picture: Picture, rng: np.random.Generator) -> Picture:
    return replace(picture, defect=str(rng.choice(DEFECTS)), degree=rng.uniform(0.15, 1.0))


def _word(sign: Sign, rng: np.random.Generator) -> str:
    """The right word, or one with some letters replaced; the plate keeps its size."""
    letters = list(sign.word)
    if rng.random() < 0.65:
        for place in range(len(letters)):
            if rng.random() < 0.5:
                letters[place] = str(rng.choice(list(LETTERS)))
    return "".join(letters)


def _thing(scene: Scene, rng: np.random.Generator, *, small: bool = False) -> ToyObject:
    """The scene's object, changed or not, or any object within the edited region."""
    if scene.object is not None and not small and rng.random() < 0.6:
        return scene.object if rng.random() < 0.4 else _changed(scene.object, rng)
    ys, xs = np.nonzero(scene.mask_HW)
    colour, shape = _colour_and_shape(rng)
    return ToyObject(
        shape=shape,
        colour=colour,
        cx=float(rng.normal(xs.mean(), xs.std() * 0.6)),
        cy=float(rng.normal(ys.mean(), ys.std() * 0.6)),
        radius=float(rng.uniform(4.0, 7.5) if small else rng.uniform(8.0, 14.5)),
        saturation=float(rng.uniform(0.4, 1.0)),
        value=float(rng.uniform(0.55, 1.0)),
    )


def _changed(thing: ToyObject, rng: np.random.Generator) -> ToyObject:
    match rng.integers(6):
        case 0:
            colour, _ = _colour_and_shape(rng, shape=thing.shape)
            return replace(thing, colour=colour)
        case 1:
            _, shape = _colour_and_shape(rng, colour=thing.colour)
            return replace(thing, shape=shape)
        case 2:
            return replace(thing, radius=float(np.clip(thing.radius * rng.uniform(0.7, 1.3), 6.5, 15)))
        case 3:
            return replace(thing, cx=thing.cx + rng.normal(0, 4), cy=thing.cy + rng.normal(0, 4))
        case 4:
            return replace(thing, saturation=float(rng.uniform(0.3, 1.0)))
        case _:
            return replace(thing, value=float(rng.uniform(0.5, 1.0)))


def _colour_and_shape(
    rng: np.random.Generator, *, colour: str | None = None, shape: str | None = None
) -> tuple[str, str]:
    """A pair that training may show: never one of the held-out ones."""
    while True:
        pair = colour or str(rng.choice(list(HUES))), shape or str(rng.choice(SHAPES))
        if pair not in HELD_OUT_PAIRS:
            return pair


def _warped(image: Floats, amplitude: float, rng: np.random.Generator, *, scale: float) -> Floats:
    """The image under a smooth random displacement of `amplitude` pixels (its standard deviation)."""
    shift = np.stack([gaussian_filter(rng.normal(size=(SIZE, SIZE)), scale) for _ in range(2)])
    rows_columns = np.mgrid[:SIZE, :SIZE] + shift * amplitude / shift.std()
    channels = [map_coordinates(image[..., c], rows_columns, order=1, mode="nearest") for c in range(image.shape[-1])]
    return np.stack(channels, axis=-1)


def _damage(image: Floats, region: np.ndarray, defect: str | None, degree: float, rng: np.random.Generator) -> Floats:
    if defect is None:
        return image
    damaged = _DAMAGE[defect](image, degree, rng)
    edge = gaussian_filter(region.astype(float), rng.uniform(0.3, 2.0))[..., None]
    return image + edge * (damaged - image)


def _patch(image: Floats, degree: float, rng: np.random.Generator) -> Floats:
    """Another part of the picture, shifted and turned, blended in."""
    other = np.roll(np.rot90(image, int(rng.integers(1, 4))), tuple(rng.integers(8, 56, 2)), axis=(0, 1))
    return image + (0.3 + 0.7 * degree) * (other - image)


_DAMAGE = {
    "blur": lambda image, degree, rng: gaussian_filter(image, (0.7 + 3.3 * degree, 0.7 + 3.3 * degree, 0)),
    "noise": lambda image, degree, rng: image + rng.normal(0, 0.03 + 0.15 * degree, image.shape),
    "tint": lambda image, degree, rng: image + (0.05 + 0.25 * degree) * _direction(rng),
    "patch": _patch,
    "grey": lambda image, degree, rng: image + (0.2 + 0.8 * degree) * (rng.uniform(0.3, 0.7) - image),
    "ripple": lambda image, degree, rng: _warped(image, 1.0 + 4.0 * degree, rng, scale=2.5),
}


def _direction(rng: np.random.Generator) -> Floats:
    colour = rng.normal(size=3)
    return colour / np.linalg.norm(colour)
