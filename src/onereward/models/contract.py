"""What an editor expects at inference: saved beside its weights, so that it is asked as it was trained to be asked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from onereward.flow.shift import Shift
from onereward.terms import EXTEND_PROMPT, REMOVE_PROMPT, Task

CONTRACT_FILE = "onereward.json"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """An editor's inference settings; the defaults are those of the base FLUX.1-Fill-dev.

    `guidance` is embedded by the transformer, which was distilled for values in `guidance_range`; `true_cfg` above 1
    adds a second pass with `negative_prompt`. `shift` is the sampler's; None means as the scheduler's file says.
    `native_size` is the side in pixels of the squares that a small editor was trained on (the region around the mask
    is resized to it); None means any size in multiples of `size_multiple`, up to `max_pixels` in area (of a larger
    picture, the part around the mask).
    """

    guidance: float = 30.0
    guidance_range: tuple[float, float] = (10.0, 40.0)
    true_cfg: float = 1.0
    negative_prompt: str = ""
    steps: int = 50
    shift: Shift | None = None
    max_sequence_length: int = 512
    remove_prompt: str = REMOVE_PROMPT
    extend_prompt: str = EXTEND_PROMPT
    size_multiple: int = 16
    native_size: int | None = None
    max_pixels: int = 2 * 1024 * 1024

    def prompt_for(self, task: Task, prompt: str) -> str:
        """The words the editor is given: its own for a removal and for an extend without a prompt.

        Raises ValueError if a fill or a text task has no prompt.
        """
        if task is Task.REMOVE:
            return self.remove_prompt
        if prompt:
            return prompt
        if task is Task.EXTEND:
            return self.extend_prompt
        raise ValueError(f"task {task.value} got an empty prompt: say what the masked region should show")


RELEASED: Mapping[str, Contract] = {
    "black-forest-labs/FLUX.1-Fill-dev": Contract(shift=Shift()),
    "bytedance-research/OneReward": Contract(
        guidance=1.0, guidance_range=(0.5, 1.5), true_cfg=4.0, negative_prompt="nsfw", shift=Shift()
    ),
}
"""Contracts of published editors that carry no contract file, by Hub repository (facts of their model card).

OneReward's card asks both of its transformers, and its LoRA for removal, in one way.
"""


def save_contract(folder: Path, contract: Contract) -> None:
    """Write the contract beside the model in `folder`."""
    (folder / CONTRACT_FILE).write_text(json_of_contract(contract), encoding="utf-8")


def json_of_contract(contract: Contract) -> str:
    """The text of a contract file."""
    return json.dumps(asdict(contract), indent=2) + "\n"


def read_contract(file: Path) -> Contract:
    """The contract in `file`; raises ValueError, naming the file, for what is no contract."""
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no contract: {error}") from error
    return contract_of_json(text, str(file))


def contract_of_json(text: str, where: str) -> Contract:
    """The contract in a contract file's text; ValueError, which names `where` it lay, for what is none."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} is no contract: {error}; write it again or remove it") from error
    if not isinstance(values, dict):
        raise ValueError(f"{where} is no contract: expected one JSON object of its settings")
    known = [field.name for field in fields(Contract)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown fields {', '.join(unknown)}; known: {', '.join(known)}")
    try:
        return Contract(**{name: _READERS[name](value) for name, value in values.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is no contract: {error}; correct it or remove it") from error


def table_of_contract(contract: Contract) -> str:
    """The contract for people, a line a setting."""
    shift, (low, high) = contract.shift, contract.guidance_range
    size = "squares of {0.native_size} pixels a side" if contract.native_size else "any, up to {0.max_pixels:,} pixels"
    rows = {
        "guidance": f"{contract.guidance:g} (made for {low:g} to {high:g})",
        "true CFG": f"{contract.true_cfg:g}" + ("" if contract.true_cfg > 1 else " (none)"),
        "negative prompt": contract.negative_prompt or "(none)",
        "steps": f"{contract.steps}",
        "shift": "the scheduler's own"
        if shift is None
        else f"mu {shift.base_mu:g} at {shift.base_tokens} tokens, {shift.max_mu:g} at {shift.max_tokens}",
        "prompt of remove": contract.remove_prompt,
        "prompt of extend": f"{contract.extend_prompt} (if none is given)",
        "longest prompt": f"{contract.max_sequence_length} tokens",
        "size": f"{size.format(contract)}, in multiples of {contract.size_multiple}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())


def _number(value: Any) -> Any:
    """A number as it is written, whole or not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"got {value!r} for a number")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"got {value!r}, expected a whole number from 1 up")
    return value


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"got {value!r} for a text")
    return value


def _range(value: Any) -> tuple[float, float]:
    low, high = map(_number, value)
    return low, high


def _shift(value: Any) -> Shift | None:
    if value is None:
        return None
    shift = Shift(**{name: _number(number) for name, number in dict(value).items()})
    if shift.base_tokens >= shift.max_tokens:
        raise ValueError(f"got {shift}, expected base_tokens below max_tokens")
    return shift


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "guidance": _number,
    "guidance_range": _range,
    "true_cfg": _number,
    "negative_prompt": _words,
    "steps": _count,
    "shift": _shift,
    "max_sequence_length": _count,
    "remove_prompt": _words,
    "extend_prompt": _words,
    "size_multiple": _count,
    "native_size": lambda value: value if value is None else _count(value),
    "max_pixels": _count,
}
