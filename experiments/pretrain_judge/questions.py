"""Dense questions about the visible attributes of one or two toy pictures, each answered by one token.

None of them is a preference dimension: they ask what is there, where, how large, how bright, how damaged, and which
image has more of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
from pictures import DEFECTS, Picture, Rendered

from onereward.toy.scenes import HUES, LETTERS, SHAPES, SIZE, Floats, object_prompt, sign_prompt

ORDINALS = ("first", "second")
PLACES = {"upper left": (0, 0), "upper right": (0, 1), "lower left": (1, 0), "lower right": (1, 1)}
ANSWERS = [*HUES, *SHAPES, *DEFECTS, *LETTERS, *"012345678", *ORDINALS, "none", "both", "neither", "yes", "no"]
_ASKED = ' Please answer "yes" or "no".'


@dataclass(frozen=True, kw_only=True)
class Question:
    family: str
    text: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    pictures: tuple[Picture, Picture]
    rendered: tuple[Rendered, Rendered]

    @property
    def pixels(self) -> tuple[Floats, Floats]:
        return self.rendered[0].pixels_HW3, self.rendered[1].pixels_HW3


Asker = Callable[[Pair, np.random.Generator], Question | None]


def ask(pair: Pair, rng: np.random.Generator, number: int) -> list[Question]:
    """`number` distinct questions that fit the pair."""
    questions: dict[str, Question] = {}
    weights = np.array([weight for _, weight in ASKERS], float)
    for _ in count():
        asker = ASKERS[rng.choice(len(ASKERS), p=weights / weights.sum())][0]
        question = asker(pair, rng)
        if question is not None:
            questions[question.text] = question
        if len(questions) == number:
            return list(questions.values())
    raise AssertionError


def _bin(value: float, low: float, high: float) -> str:
    return str(int(np.clip((value - low) / (high - low) * 8, 0, 7.999)) + 1)


def _yes(true: bool) -> str:
    return "yes" if true else "no"


def _one(pair: Pair, rng: np.random.Generator) -> tuple[Picture, Floats, str]:
    which = int(rng.integers(2))
    return pair.pictures[which], pair.pixels[which], ORDINALS[which]


def _readable(picture: Picture) -> bool:
    """Whether what is drawn can still be told: not warped, faded or damaged away."""
    spoilt = picture.defect is not None and not picture.inside and picture.degree > 0.4
    return picture.warp < 2.5 and picture.strength > 0.4 and not spoilt


def _kind(pair: Pair, rng: np.random.Generator) -> Question | None:
    picture, _, name = _one(pair, rng)
    field = ("shape", "colour")[int(rng.integers(2))]
    if picture.word is not None or (picture.thing is not None and not _readable(picture)):
        return None
    answer = "none" if picture.thing is None else getattr(picture.thing, field)
    return Question(family=field, text=f"What {field} is the object in the {name} image?", answer=answer)


_OBJECT_SCALES = {
    "large": ("radius", 6.5, 15.0),
    "saturated": ("saturation", 0.3, 1.0),
    "bright": ("value", 0.5, 1.0),
    "far right": ("cx", 8.0, 56.0),
    "far down": ("cy", 8.0, 56.0),
}


def _scale(pair: Pair, rng: np.random.Generator) -> Question | None:
    picture, _, name = _one(pair, rng)
    if picture.thing is None or not _readable(picture):
        return None
    word = str(rng.choice(list(_OBJECT_SCALES)))
    field, low, high = _OBJECT_SCALES[word]
    answer = _bin(getattr(picture.thing, field), low, high)
    return Question(family=field, text=f"How {word} is the object in the {name} image?", answer=answer)


def _condition(pair: Pair, rng: np.random.Generator) -> Question | None:
    """Of the drawing: warp and opacity, 0 to 8."""
    picture, _, name = _one(pair, rng)
    drawn = picture.thing is not None or picture.word is not None
    if rng.random() < 0.5:
        if not drawn or picture.strength < 0.4:
            return None
        answer = "0" if picture.warp == 0 else _bin(picture.warp, 0.5, 5.0)
        return Question(family="warp", text=f"How distorted is the drawing in the {name} image?", answer=answer)
    answer = _bin(picture.strength, 0.1, 1.0) if drawn else "0"
    return Question(family="strength", text=f"How visible is the drawing in the {name} image?", answer=answer)


def _defect(pair: Pair, rng: np.random.Generator) -> Question | None:
    picture, _, name = _one(pair, rng)
    if rng.random() < 0.5:
        answer = picture.defect or "none"
        return Question(family="defect", text=f"Which defect has the {name} image?", answer=answer)
    answer = _bin(picture.degree, 0.15, 1.0) if picture.defect else "0"
    return Question(family="degree", text=f"How strong is the defect of the {name} image?", answer=answer)


def _region(pair: Pair, rng: np.random.Generator) -> Question | None:
    """Plain pixel statistics of a quarter of the image."""
    _, pixels, name = _one(pair, rng)
    place = str(rng.choice(list(PLACES)))
    row, column = (np.array(PLACES[place]) * (SIZE // 2)).tolist()
    quarter = pixels[row : row + SIZE // 2, column : column + SIZE // 2]
    word, value, high = _STATISTICS[int(rng.integers(len(_STATISTICS)))](quarter)
    return Question(family=word, text=f"How {word} is the {place} of the {name} image?", answer=_bin(value, 0, high))


_STATISTICS: list[Callable[[Floats], tuple[str, float, float]]] = [
    lambda part: ("bright", float(part.mean()), 1.0),
    lambda part: ("rough", float(abs(np.diff(part, axis=0)).mean() + abs(np.diff(part, axis=1)).mean()), 0.2),
    lambda part: ("red", float((part[..., 0] - part.mean(-1)).mean() + 0.2), 0.4),
    lambda part: ("blue", float((part[..., 2] - part.mean(-1)).mean() + 0.2), 0.4),
    lambda part: ("saturated", float((part.max(-1) - part.min(-1)).mean()), 0.7),
]


def _damage(pair: Pair, rng: np.random.Generator) -> Question | None:
    """How far a quarter of the image is from what it was before the defect, beside what is drawn; in one or in both."""
    place = str(rng.choice(list(PLACES)))
    row, column = (np.array(PLACES[place]) * (SIZE // 2)).tolist()
    quarter = (slice(row, row + SIZE // 2), slice(column, column + SIZE // 2))
    first, second = (float(rendered.damage_HW[quarter].mean()) for rendered in pair.rendered)
    if rng.random() < 0.5:
        which = int(rng.integers(2))
        damage = (first, second)[which]
        answer = "0" if damage < 0.004 else _bin(damage, 0.0, 0.16)
        text = f"How strong is the defect in the {place} of the {ORDINALS[which]} image?"
        return Question(family="local damage", text=text, answer=answer)
    if abs(first - second) < 0.01:
        return None
    text = f"Is the defect in the {place} stronger in the **first** image than in the **second** one?" + _ASKED
    return Question(family="more local damage", text=text, answer=_yes(first > second))


def _description(pair: Pair, rng: np.random.Generator) -> str | None:
    """The prompt-like description of one of the drawings, or one with a wrong part."""
    picture, _, _ = _one(pair, rng)
    if picture.word is not None:
        letters = list(picture.word)
        if rng.random() < 0.5:
            letters[int(rng.integers(len(letters)))] = str(rng.choice(list(LETTERS)))
        return sign_prompt("".join(letters))
    if picture.thing is None:
        return f"a {rng.choice(list(HUES))} {rng.choice(SHAPES)}"
    colour, shape = picture.thing.colour, picture.thing.shape
    match rng.integers(4):
        case 0:
            colour = str(rng.choice(list(HUES)))
        case 1:
            shape = str(rng.choice(SHAPES))
    return f"a {colour} {shape}"


def _shows(picture: Picture, description: str) -> bool:
    if picture.word is not None:
        return description == sign_prompt(picture.word)
    return picture.thing is not None and description == object_prompt(picture.thing)


def _shown(pair: Pair, rng: np.random.Generator) -> Question | None:
    """Whether one image shows a description, or which of the two does."""
    description = _description(pair, rng)
    if not all(_readable(picture) for picture in pair.pictures):
        return None
    seen = [_shows(picture, description) for picture in pair.pictures]
    which = int(rng.integers(2))
    match rng.integers(3):
        case 0:
            text = f"Is there {description} in the {ORDINALS[which]} image?" + _ASKED
        case 1:
            text = f"Does the {ORDINALS[which]} image show the prompt? The prompt of the two image is {description}."
        case _:
            answer = {(0, 0): "neither", (0, 1): "second", (1, 0): "first", (1, 1): "both"}[seen[0], seen[1]]
            text = f"Which image shows the prompt? The prompt of the two image is {description}."
            return Question(family="which shows", text=text, answer=answer)
    return Question(family="shows", text=text, answer=_yes(seen[which]))


def _letter(pair: Pair, rng: np.random.Generator) -> Question | None:
    picture, _, name = _one(pair, rng)
    if picture.word is None or not _readable(picture):
        return None
    place = int(rng.integers(3))
    answer = picture.word[place] if place < len(picture.word) else "none"
    ordinal = ("first", "second", "third")[place]
    return Question(family="letter", text=f"What is the {ordinal} letter in the {name} image?", answer=answer)


def _same(pair: Pair, rng: np.random.Generator) -> Question | None:
    first, second = pair.pictures
    match rng.integers(3):
        case 0:
            same = first.scene is second.scene and (first.defect, first.degree) == (second.defect, second.degree)
            return Question(family="same background", text="Are the backgrounds equal?" + _ASKED, answer=_yes(same))
        case 1:
            if not (_readable(first) and _readable(second)) or first.thing is None or second.thing is None:
                return None
            field = ("shape", "colour")[int(rng.integers(2))]
            same = getattr(first.thing, field) == getattr(second.thing, field)
            return Question(family=f"same {field}", text=f"Do the objects have the same {field}?", answer=_yes(same))
        case _:
            if first.word is None or second.word is None or not (_readable(first) and _readable(second)):
                return None
            text = "Do the signs say the same?" + _ASKED
            return Question(family="same word", text=text, answer=_yes(first.word == second.word))


def _compare(pair: Pair, rng: np.random.Generator) -> Question | None:
    """Which of two images has more of something, put as Fig. 3 puts its question; close calls are not asked."""
    word, value, margin = _MEASURES[int(rng.integers(len(_MEASURES)))]
    first, second = (value(picture) for picture in pair.pictures)
    if first is None or second is None or abs(first - second) < margin:
        return None
    text = f"Is the drawing in the **first** image {word} than in the **second** one?" + _ASKED
    return Question(family=word, text=text, answer=_yes(first > second))


def _of_thing(field: str) -> Callable[[Picture], float | None]:
    return lambda picture: getattr(picture.thing, field) if picture.thing and _readable(picture) else None


def _of_drawing(field: str) -> Callable[[Picture], float | None]:
    return lambda picture: getattr(picture, field) if picture.thing or picture.word else None


def _centring(picture: Picture) -> float | None:
    """Minus the distance, in pixels, of the object from the middle of the edited region."""
    if picture.thing is None or not _readable(picture):
        return None
    ys, xs = np.nonzero(picture.scene.mask_HW)
    return -float(np.hypot(picture.thing.cx - xs.mean(), picture.thing.cy - ys.mean()))


_MEASURES: list[tuple[str, Callable[[Picture], float | None], float]] = [
    ("larger", _of_thing("radius"), 0.8),
    ("more saturated", _of_thing("saturation"), 0.08),
    ("brighter", _of_thing("value"), 0.06),
    ("further right", _of_thing("cx"), 1.5),
    ("further down", _of_thing("cy"), 1.5),
    ("more central", _centring, 1.5),
    ("more distorted", _of_drawing("warp"), 0.5),
    ("more visible", lambda picture: picture.strength if picture.thing or picture.word else 0.0, 0.1),
]


def _compare_defects(pair: Pair, rng: np.random.Generator) -> Question | None:
    first, second = pair.pictures
    if {first.defect, second.defect} == {None} or abs(first.degree - second.degree) < 0.1:
        return None
    if None not in (first.defect, second.defect) and first.defect != second.defect:
        return None
    defect = first.defect or second.defect
    text = f"Is the {defect} stronger in the **first** image than in the **second** one?" + _ASKED
    return Question(family=f"more {defect}", text=text, answer=_yes(first.degree > second.degree))


def _compare_pixels(pair: Pair, rng: np.random.Generator) -> Question | None:
    word, value, high = _STATISTICS[int(rng.integers(len(_STATISTICS)))](pair.pixels[0])
    name = word
    other = next(v for w, v, _ in (s(pair.pixels[1]) for s in _STATISTICS) if w == name)
    if abs(value - other) < 0.015 * high:
        return None
    text = f"Is the **first** image more {word} than the **second** one?" + _ASKED
    return Question(family=f"more {word}", text=text, answer=_yes(value > other))


ASKERS: list[tuple[Asker, float]] = [
    (_kind, 2.0),
    (_scale, 2.0),
    (_condition, 1.5),
    (_defect, 1.5),
    (_region, 1.5),
    (_shown, 2.5),
    (_letter, 5.0),
    (_same, 1.0),
    (_damage, 2.0),
    (_compare, 3.0),
    (_compare_defects, 1.5),
    (_compare_pixels, 0.7),
]
