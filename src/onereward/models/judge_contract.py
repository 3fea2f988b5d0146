"""What a judge's answer means: saved beside its weights, so that it is asked as it was trained to be asked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from onereward.query import Variant
from onereward.terms import Dimension

JUDGE_CONTRACT_FILE = "onereward.json"


class Probability(StrEnum):
    """P("yes") over the whole vocabulary (`full`) or over the two answers (`binary`); the paper does not say which."""

    FULL = "full"
    BINARY = "binary"


@dataclass(frozen=True, kw_only=True)
class JudgeContract:
    """How to ask a judge and how to read it; the defaults are those of a judge that nobody tuned.

    `answers` are its words for "the first is better" and "it is not". `binary` is the default because then P(yes) of a
    pair and of the swapped pair are comparable and no gradient is spent on other words. `variant` is what the queries of
    its training told. Calibrated, P = sigmoid(log odds / temperature of the dimension), 1 where there is none.
    """

    answers: tuple[str, str] = ("yes", "no")
    probability: Probability = Probability.BINARY
    variant: Variant = Variant.TASK_DIMENSION
    temperatures: Mapping[Dimension, float] = field(default_factory=dict)

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
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is no judge's contract: {error}; correct it or remove it") from error


def _contract_of(values: Any) -> JudgeContract:
    known = [each.name for each in fields(JudgeContract)]
    if not isinstance(values, dict) or not values.keys() <= set(known):
        raise ValueError(f"expected one JSON object with some of {', '.join(known)}")
    read = dict(values)
    if "answers" in read:
        yes, no = read["answers"]
        if not (isinstance(yes, str) and isinstance(no, str)) or yes == no:
            raise ValueError(f"got answers {read['answers']!r}, expected two different words")
        read["answers"] = (yes, no)
    if "probability" in read:
        read["probability"] = Probability(read["probability"])
    if "variant" in read:
        read["variant"] = Variant(read["variant"])
    if "temperatures" in read:
        read["temperatures"] = {Dimension(name): _positive(value) for name, value in dict(read["temperatures"]).items()}
    return JudgeContract(**read)


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ValueError(f"got a temperature of {value!r}, expected a number above 0")
    return float(value)
