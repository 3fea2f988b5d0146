"""Toy scenes of 64x64 pixels whose truth is known: backgrounds, shaded objects, signs with letters, and the four tasks.

A scene is a pure function of (split, index): the triplet carries only its id, and whoever needs the truth (the oracle,
pretraining) makes the scene again. Half of the backgrounds are procedural, half are crops of photographs that the
scikit-image wheel carries. Arrays are uint8 RGB, masks are boolean, True where the editor repaints.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from onereward.seeds import numpy_generator
from onereward.store.images import encode_png
from onereward.terms import EXTEND_PROMPT, REMOVE_PROMPT, Task, Triplet

SIZE = 64
MIDDLE_GREY = 127

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
HUES: dict[str, float] = {"red": 0.0, "yellow": 55.0, "green": 120.0, "cyan": 182.0, "blue": 228.0, "pink": 315.0}
LETTERS = "ABCEHKLORSTX"

HELD_OUT_PAIRS = frozenset({("pink", "star"), ("cyan", "ring"), ("green", "cross"), ("blue", "triangle")})
TRAIN_PHOTOS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "coffee.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
)
HELD_OUT_PHOTOS = ("chelsea.png", "grass.png", "rocket.jpg")

TASK_CYCLE = (Task.FILL, Task.EXTEND, Task.REMOVE, Task.FILL, Task.EXTEND, Task.TEXT) * 2 + (
    Task.FILL,
    Task.EXTEND,
    Task.REMOVE,
    Task.TEXT,
)
"""Scene `index` has task `TASK_CYCLE[index % 16]`: 5 fill, 5 extend, 3 remove, 3 text."""

_REACH = 1.18  # no shape goes further than this many radii from its centre, along x or y
LETTER_WIDTH, LETTER_HEIGHT, PLATE_MARGIN = 15, 20, 3

Array = NDArray[np.uint8]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Split(StrEnum):
    """Splits share no scene; held-out photographs, object-colour pairs and words appear in the test splits only.

    `test_2` .. are fresh ranges for when a setting was changed after figures of an earlier range were seen.
    """

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    TEST_2 = "test_2"
    TEST_3 = "test_3"
    TEST_4 = "test_4"

    @property
    def held_out(self) -> bool:
        return self.value.startswith("test")


@dataclass(frozen=True, kw_only=True)
class ToyObject:
    """A shaded shape; centre and radius in pixels, saturation and value in [0, 1]."""

    shape: str
    colour: str
    cx: float
    cy: float
    radius: float
    saturation: float
    value: float


@dataclass(frozen=True, kw_only=True)
class Sign:
    """A white plate with dark letters; (left, top) of the plate in pixels."""

    word: str
    left: int
    top: int

    @property
    def width(self) -> int:
        return LETTER_WIDTH * len(self.word) + 2 * PLATE_MARGIN

    @property
    def height(self) -> int:
        return LETTER_HEIGHT + 2 * PLATE_MARGIN


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One triplet with its truth: `background_HW3` is what lies behind the edit, `truth_HW3` the ideal edit."""

    split: Split
    index: int
    task: Task
    prompt: str
    source_HW3: Array
    mask_HW: Mask
    truth_HW3: Array
    background_HW3: Array
    object: ToyObject | None
    distractor: ToyObject | None
    sign: Sign | None
    photo: str | None

    @property
    def id(self) -> str:
        return f"toy-{self.split.value}-{self.index:06d}"

    @property
    def hole_HW3(self) -> Array:
        """The source with the masked region emptied: what an editor that did nothing would return."""
        return np.where(self.mask_HW[..., None], np.uint8(MIDDLE_GREY), self.source_HW3)

    def triplet(self) -> Triplet:
        """The triplet as the stages see it: nothing of the truth but the id."""
        mask = Image.fromarray(self.mask_HW.astype(np.uint8) * 255)
        return Triplet(
            id=self.id,
            task=self.task,
            prompt=self.prompt,
            image=encode_png(Image.fromarray(self.source_HW3)),
            mask=encode_png(mask),
        )


def scene_of(triplet_id: str) -> Scene:
    """The scene behind a toy triplet's id; ValueError for an id that no toy scene has."""
    match = re.fullmatch(r"toy-(\w+)-(\d+)", triplet_id)
    if match is None or match[1] not in list(Split):
        raise ValueError(
            f"triplet {triplet_id!r} is not a toy scene (toy-<split>-<index>), and the oracle knows no other: "
            "score other images with a judge"
        )
    return make_scene(Split(match[1]), int(match[2]))


def toy_truth(triplet: Triplet) -> Image.Image:
    """The ideal edit of a toy triplet; ValueError if it is no toy scene."""
    return Image.fromarray(scene_of(triplet.id).truth_HW3)


def make_scene(split: Split | str, index: int, task: Task | None = None) -> Scene:
    """Scene `index` of a split; `task` overrides the cycle's (pretraining only: such a scene has no id of its own)."""
    split = Split(split)
    task = task or TASK_CYCLE[index % len(TASK_CYCLE)]
    rng = numpy_generator("toy-scene", split.value, index)
    background, photo = _background(rng, split)
    match task:
        case Task.TEXT:
            return _text_scene(rng, split, index, background, photo)
        case Task.EXTEND:
            return _extend_scene(rng, split, index, background, photo)
        case _:
            return _object_scene(rng, split, index, task, background, photo)


def _object_scene(
    rng: np.random.Generator, split: Split, index: int, task: Task, background: Floats, photo: str | None
) -> Scene:
    radius = rng.uniform(9.5, 14.0)
    hole = radius * rng.uniform(1.25, 1.55)
    margin = hole + 4
    cx, cy = rng.uniform(margin, SIZE - margin, 2)
    jitter = rng.uniform(-1, 1, 2) * min(2.0, hole - _REACH * radius)
    round_hole = bool(rng.random() < 0.25)
    x, y = _pixel_grid()
    distance = np.hypot(x - cx, y - cy) if round_hole else np.maximum(abs(x - cx), abs(y - cy))
    mask = distance < hole * (1.1 if round_hole else 1.0)
    distractor = _distractor(rng, split, background, mask)
    clean = background if distractor is None else draw_object(background, distractor)
    thing = _random_object(rng, split, background, mask, cx + jitter[0], cy + jitter[1], radius)
    truth = draw_object(clean, thing)
    removing = task is Task.REMOVE
    return Scene(
        split=split,
        index=index,
        task=task,
        prompt=REMOVE_PROMPT if removing else object_prompt(thing),
        source_HW3=_to_uint8(truth if removing else clean),
        mask_HW=mask,
        truth_HW3=_to_uint8(clean if removing else truth),
        background_HW3=_to_uint8(clean),
        object=thing,
        distractor=distractor,
        sign=None,
        photo=photo,
    )


def _extend_scene(rng: np.random.Generator, split: Split, index: int, background: Floats, photo: str | None) -> Scene:
    prompted = bool(rng.random() < 0.6)
    mask = np.zeros((SIZE, SIZE), bool)
    side = int(rng.integers(4))
    width = int(rng.integers(24, 33))
    if prompted or rng.random() < 0.6:
        np.rot90(mask, side)[:, :width] = True
    else:
        frame = int(rng.integers(8, 14))
        mask[:] = True
        mask[frame:-frame, frame:-frame] = False
    distractor = _distractor(rng, split, background, mask)
    clean = background if distractor is None else draw_object(background, distractor)
    thing = None
    if prompted:
        ys, xs = np.nonzero(mask)
        along = rng.uniform(-10, 10)
        across = rng.uniform(-0.5, 0.5)
        horizontal = side % 2 == 0
        cx = xs.mean() + 0.5 + (across if horizontal else along)
        cy = ys.mean() + 0.5 + (along if horizontal else across)
        thing = _random_object(rng, split, background, mask, cx, cy, rng.uniform(0.34, 0.4) * width)
    truth = clean if thing is None else draw_object(clean, thing)
    return Scene(
        split=split,
        index=index,
        task=Task.EXTEND,
        prompt=EXTEND_PROMPT if thing is None else object_prompt(thing),
        source_HW3=np.where(mask[..., None], np.uint8(MIDDLE_GREY), _to_uint8(clean)),
        mask_HW=mask,
        truth_HW3=_to_uint8(truth),
        background_HW3=_to_uint8(clean),
        object=thing,
        distractor=distractor,
        sign=None,
        photo=photo,
    )


def _text_scene(rng: np.random.Generator, split: Split, index: int, background: Floats, photo: str | None) -> Scene:
    word = _random_word(rng, split)
    probe = Sign(word=word, left=0, top=0)
    border = int(rng.integers(2, 5))
    left = int(rng.integers(border, SIZE - probe.width - border + 1))
    top = int(rng.integers(border, SIZE - probe.height - border + 1))
    sign = Sign(word=word, left=left, top=top)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top - border : top + sign.height + border, left - border : left + sign.width + border] = True
    distractor = _distractor(rng, split, background, mask)
    clean = background if distractor is None else draw_object(background, distractor)
    truth = draw_sign(clean, sign, paper=rng.uniform(0.9, 1.0), ink=rng.uniform(0.0, 0.15))
    return Scene(
        split=split,
        index=index,
        task=Task.TEXT,
        prompt=sign_prompt(word),
        source_HW3=_to_uint8(clean),
        mask_HW=mask,
        truth_HW3=_to_uint8(truth),
        background_HW3=_to_uint8(clean),
        object=None,
        distractor=distractor,
        sign=sign,
        photo=photo,
    )


def object_prompt(thing: ToyObject) -> str:
    return f"a {thing.colour} {thing.shape}"


def sign_prompt(word: str) -> str:
    return f'a sign that says "{word}"'


def is_held_out_word(word: str) -> bool:
    """About a quarter of the words of two and three letters appear in the test splits only."""
    return len(word) > 1 and sum(LETTERS.index(c) * 5**i for i, c in enumerate(word)) % 4 == 0


def _random_word(rng: np.random.Generator, split: Split) -> str:
    length = int(rng.choice(3, p=(0.2, 0.5, 0.3))) + 1
    want_held_out = split.held_out and rng.random() < 0.5 and length > 1
    while True:
        word = "".join(rng.choice(list(LETTERS), length))
        if is_held_out_word(word) == want_held_out:
            return word


def _random_object(
    rng: np.random.Generator, split: Split, background: Floats, mask: Mask, cx: float, cy: float, radius: float
) -> ToyObject:
    """An object whose colour stands out from the background that it covers."""
    behind = background[mask].mean(0)
    want_held_out = split.held_out and rng.random() < 0.25
    best, best_contrast = None, -1.0
    for _ in range(12):
        colour, shape = str(rng.choice(list(HUES))), str(rng.choice(SHAPES))
        while ((colour, shape) in HELD_OUT_PAIRS) != want_held_out:
            colour, shape = str(rng.choice(list(HUES))), str(rng.choice(SHAPES))
        thing = ToyObject(
            shape=shape,
            colour=colour,
            cx=float(cx),
            cy=float(cy),
            radius=float(radius),
            saturation=float(rng.uniform(0.55, 1.0)),
            value=float(rng.uniform(0.7, 1.0)),
        )
        contrast = float(np.linalg.norm(object_rgb(thing) - behind))
        if contrast > best_contrast:
            best, best_contrast = thing, contrast
        if contrast > 0.5:
            break
    assert best is not None
    return best


def _distractor(rng: np.random.Generator, split: Split, background: Floats, mask: Mask) -> ToyObject | None:
    """In half of the scenes, a small object that keeps clear of the mask."""
    if rng.random() < 0.5:
        return None
    x, y = _pixel_grid()
    radius = rng.uniform(4.0, 7.0)
    for _ in range(8):
        cx, cy = rng.uniform(radius + 1, SIZE - radius - 1, 2)
        disc = np.hypot(x - cx, y - cy) < radius * 1.2 + 3
        if not (disc & mask).any():
            return _random_object(rng, split, background, disc, cx, cy, radius)
    return None


@cache
def _pixel_grid() -> tuple[Floats, Floats]:
    y, x = np.mgrid[:SIZE, :SIZE]
    return x + 0.5, y + 0.5


def shape_alpha(shape: str, cx: float, cy: float, radius: float) -> Floats:
    """Anti-aliased coverage `alpha_HW` in [0, 1] of a shape whose centroid is (cx, cy), in pixels."""
    x, y = _pixel_grid()
    u, v = (x - cx) / radius, (y - cy) / radius
    return np.clip(0.5 - _signed_distance(shape, u, v) * radius, 0.0, 1.0)


def _signed_distance(shape: str, u: Floats, v: Floats) -> Floats:
    """Approximate signed distance to a unit shape, negative inside; v points down."""
    match shape:
        case "circle":
            return np.hypot(u, v) - 0.95
        case "square":
            return np.maximum(abs(u), abs(v)) - 0.82
        case "triangle":
            return np.asarray(np.maximum(v, abs(u) * np.cos(np.pi / 6) - v * 0.5) - 0.58, np.float64)
        case "star":
            return _star_distance(u, v)
        case "ring":
            return abs(np.hypot(u, v) - 0.75) - 0.25
        case "cross":
            a, b = abs(u), abs(v)
            return np.minimum(np.maximum(a - 0.33, b - 1.0), np.maximum(a - 1.0, b - 0.33))
        case _:
            raise ValueError(f"unknown shape {shape!r}: known are {', '.join(SHAPES)}")


def _star_distance(u: Floats, v: Floats) -> Floats:
    """Five points up: distance along the ray from the centre to the edge between an outer and an inner corner."""
    outer, inner = 1.1, 0.48
    sector = np.pi / 5
    angle = abs((np.arctan2(u, -v) + sector) % (2 * sector) - sector)
    inner_x, inner_y = inner * np.cos(sector), inner * np.sin(sector)
    normal = np.array([inner_y, outer - inner_x]) / np.hypot(inner_y, outer - inner_x)
    rho = np.hypot(u, v)
    return np.asarray(rho * np.cos(angle) * normal[0] + rho * np.sin(angle) * normal[1] - outer * normal[0], np.float64)


def object_rgb(thing: ToyObject) -> Floats:
    """The object's unshaded colour, RGB in [0, 1]."""
    return hsv_to_rgb(HUES[thing.colour], thing.saturation, thing.value)


def hsv_to_rgb(hue: float, saturation: float, value: float) -> Floats:
    """RGB in [0, 1] of a hue in degrees."""
    k = (np.array([5.0, 3.0, 1.0]) + hue / 60.0) % 6.0
    return value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)


def draw_object(image_HW3: Floats, thing: ToyObject) -> Floats:
    """The image with a shaded object: light comes from the upper left."""
    x, y = _pixel_grid()
    light = 1.0 - 0.18 * ((x - thing.cx) + (y - thing.cy)) / thing.radius
    rgb = np.clip(object_rgb(thing) * light[..., None], 0.0, 1.0)
    alpha = shape_alpha(thing.shape, thing.cx, thing.cy, thing.radius)[..., None]
    return image_HW3 * (1 - alpha) + rgb * alpha


def draw_sign(image_HW3: Floats, sign: Sign, *, paper: float = 0.97, ink: float = 0.08) -> Floats:
    """The image with a plate of brightness `paper` and letters of brightness `ink`."""
    out = image_HW3.copy()
    rows = slice(sign.top, sign.top + sign.height)
    out[rows, sign.left : sign.left + sign.width] = paper
    for place, letter in enumerate(sign.word):
        left = sign.left + PLATE_MARGIN + place * LETTER_WIDTH
        top = sign.top + PLATE_MARGIN
        cell = out[top : top + LETTER_HEIGHT, left : left + LETTER_WIDTH]
        alpha = glyph_alpha(letter)[..., None]
        cell[:] = cell * (1 - alpha) + ink * alpha
    return out


@cache
def glyph_alpha(letter: str) -> Floats:
    """Coverage `alpha_HW` of one bold capital in its LETTER_HEIGHT x LETTER_WIDTH cell."""
    font = ImageFont.load_default(LETTER_HEIGHT * 1.15)
    cell = Image.new("L", (LETTER_WIDTH, LETTER_HEIGHT))
    draw = ImageDraw.Draw(cell)
    left, top, right, bottom = draw.textbbox((0, 0), letter, font=font, stroke_width=1)
    at = ((LETTER_WIDTH - left - right) / 2, (LETTER_HEIGHT - top - bottom) / 2)
    draw.text(at, letter, fill=255, font=font, stroke_width=1)
    return np.asarray(cell, np.float64) / 255.0


def _background(rng: np.random.Generator, split: Split) -> tuple[Floats, str | None]:
    if rng.random() < 0.5:
        return _procedural(rng), None
    photo = str(rng.choice(HELD_OUT_PHOTOS if split.held_out else TRAIN_PHOTOS))
    image = _photo(photo)
    size = int(rng.integers(80, 200))
    left = int(rng.integers(0, image.width - size + 1))
    top = int(rng.integers(0, image.height - size + 1))
    crop = image.resize((SIZE, SIZE), Image.Resampling.BOX, (left, top, left + size, top + size))
    pixels = np.asarray(crop, np.float64) / 255.0
    return (pixels[:, ::-1] if rng.random() < 0.5 else pixels), photo


@cache
def _photo(name: str) -> Image.Image:
    """A photograph of the scikit-image wheel, its short side brought to 256 pixels."""
    with (files("skimage.data") / name).open("rb") as file:
        image = Image.open(file).convert("RGB")
    scale = 256 / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)


def _procedural(rng: np.random.Generator) -> Floats:
    """A gradient between two muted colours under one of five textures."""
    x, y = _pixel_grid()
    hues = rng.uniform(0, 360, 2)
    first, second = (hsv_to_rgb(hue, rng.uniform(0.05, 0.4), rng.uniform(0.35, 0.9)) for hue in hues)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = ((x - 32) * np.cos(angle) + (y - 32) * np.sin(angle)) / 90 + 0.5
    image = first * (1 - ramp[..., None]) + second * ramp[..., None]
    strength = rng.uniform(0.04, 0.12)
    return np.asarray(np.clip(image + strength * _texture(rng, x, y)[..., None], 0.0, 1.0), np.float64)


def _texture(rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    period, angle = rng.uniform(8, 16), rng.uniform(0, np.pi)
    u = x * np.cos(angle) + y * np.sin(angle)
    v = -x * np.sin(angle) + y * np.cos(angle)
    phase = rng.uniform(0, 2 * np.pi, 2)
    a, b = np.sin(2 * np.pi * u / period + phase[0]), np.sin(2 * np.pi * v / period + phase[1])
    match rng.integers(5):
        case 0:
            return np.zeros_like(x)
        case 1:
            return np.asarray(np.tanh(3 * a), np.float64)
        case 2:
            return np.asarray(np.tanh(4 * a * b), np.float64)
        case 3:
            return np.asarray(np.clip(4 * (a * b - 0.6), 0.0, 1.0), np.float64)
        case _:
            grid = Image.fromarray(rng.uniform(-1, 1, (8, 8)).astype(np.float32))
            return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float64)


def _to_uint8(image_HW3: Floats) -> Array:
    return np.asarray(np.round(np.clip(image_HW3, 0.0, 1.0) * 255.0), np.uint8)
