"""What a judge's answer means: saved beside its weights, so that it is asked as it was trained to be asked."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from onereward.query import Variant
from onereward.terms import Dimension

JUDGE_CONTRACT_FILE = "onereward.json"
_Word = TypeVar("_Word", bound=StrEnum)


class Probability(StrEnum):
    """P("yes") over the whole vocabulary (`full`) or over the two answers (`binary`); the paper does not say which."""

    FULL = "full"
    BINARY = "binary"


@dataclass(frozen=True, kw_only=True)
class JudgeContract:
    """How to ask a judge and how to read it; the defaults are those of a judge that nobody tuned.

    `answers` are its words for "the first is better" and "it is not". `binary` is the default because then P(yes) of a
    pair and of the swapped pair are comparable and no gradient is spent on other words. `variant` is what the queries
    of its training told. Calibrated, P = sigmoid(log odds / temperature of the dimension), 1 where there is none.
    Raises ValueError for two answers that are the same and for a temperature that is not above 0.
    """

    answers: tuple[str, str] = ("yes", "no")
    probability: Probability = Probability.BINARY
    variant: Variant = Variant.TASK_DIMENSION
    temperatures: Mapping[Dimension, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.answers[0] == self.answers[1]:
            raise ValueError(f"got answers {list(self.answers)}, expected two different words")
        for dimension, temperature in self.temperatures.items():
            if not 0 < temperature < math.inf:
                raise ValueError(f"got a temperature of {temperature} for {dimension}, expected a number above 0")

    def temperature(self, dimension: Dimension) -> float:
        """By which log odds in that dimension are divided before they are read as a probability."""
        return self.temperatures.get(dimension, 1.0)


def save_judge_contract(folder: Path, contract: JudgeContract) -> None:
    """Write the contract beside the model in `folder`."""
    (folder / JUDGE_CONTRACT_FILE).write_text(json.dumps(asdict(contract), indent=2) + "\n", encoding="utf-8")


def read_judge_contract(file: Path) -> JudgeContract:
    """The contract in `file`; raises ValueError, naming the file, for what is no contract."""
    try:
        return _contract_of(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{file} is no judge's contract: {error}; correct it or remove it") from error


def _contract_of(values: Any) -> JudgeContract:
    known = [each.name for each in fields(JudgeContract)]
    if not isinstance(values, dict):
        raise ValueError(f"got {values!r}, expected an object with some of {', '.join(known)}")
    if values.keys() - set(known):
        raise ValueError(f"got {', '.join(sorted(values.keys() - set(known)))}, expected some of {', '.join(known)}")
    readers: dict[str, Callable[[Any], Any]] = {
        "answers": _answers,
        "probability": partial(_one_of, Probability),
        "variant": partial(_one_of, Variant),
        "temperatures": _temperatures,
    }
    return JudgeContract(**{name: readers[name](value) for name, value in values.items()})


def _one_of(kind: type[_Word], value: Any) -> _Word:
    if value not in list(kind):
        raise ValueError(f"got {kind.__name__.lower()} {value!r}, expected one of {', '.join(kind)}")
    return kind(value)


def _answers(value: Any) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(word, str) for word in value):
        raise ValueError(f"got answers {value!r}, expected a list of two words")
    return value[0], value[1]


def _temperatures(value: Any) -> dict[Dimension, float]:
    if not isinstance(value, dict):
        raise ValueError(f"got temperatures {value!r}, expected an object of numbers by dimension")
    for temperature in value.values():
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise ValueError(f"got a temperature of {temperature!r}, expected a number above 0")
    return {_one_of(Dimension, name): float(temperature) for name, temperature in value.items()}
