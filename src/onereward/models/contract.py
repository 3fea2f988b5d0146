"""What an editor expects at inference: saved beside its weights, so that it is asked as it was trained to be asked."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from onereward.terms import EXTEND_PROMPT, REMOVE_PROMPT, Task

CONTRACT_FILE = "onereward.json"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """An editor's inference settings; the defaults are those of the base FLUX.1-Fill-dev.

    `guidance` is embedded by the transformer, which was distilled for values in `guidance_range`; `true_cfg` above 1
    adds a second pass with `negative_prompt`.
    `native_size` is the side in pixels of the squares that a small editor was trained on (the region around the mask
    is resized to it); None means any size in multiples of `size_multiple`, up to `max_pixels` in area (of a larger
    picture, the part around the mask).
    """

    guidance: float = 30.0
    guidance_range: tuple[float, float] = (10.0, 40.0)
    true_cfg: float = 1.0
    negative_prompt: str = ""
    steps: int = 50
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


RELEASED = {
    "bytedance-research/OneReward": Contract(
        guidance=1.0, guidance_range=(0.5, 1.5), true_cfg=4.0, negative_prompt="nsfw"
    ),
}
"""Contracts of published editors that carry no contract file, by Hub repository (facts of their model card)."""


def save_contract(folder: Path, contract: Contract) -> None:
    """Write the contract beside the model in `folder`."""
    (folder / CONTRACT_FILE).write_text(json.dumps(asdict(contract), indent=2) + "\n", encoding="utf-8")


def read_contract(file: Path) -> Contract:
    """The contract in `file`; raises ValueError, naming the file, for fields that a contract does not have."""
    values = json.loads(file.read_text(encoding="utf-8"))
    if "guidance_range" in values:
        values["guidance_range"] = tuple(values["guidance_range"])
    known = [field.name for field in fields(Contract)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{file} has unknown fields {', '.join(unknown)}; known: {', '.join(known)}")
    return Contract(**values)
