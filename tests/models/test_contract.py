"""The file that says how an editor wants to be asked: written, read back, refused when it is spoilt, shown."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onereward.flow.shift import Shift
from onereward.models.contract import (
    RELEASED,
    Contract,
    json_of_contract,
    read_contract,
    save_contract,
    table_of_contract,
)
from onereward.terms import Task

OTHER = Contract(
    guidance=2.5,
    guidance_range=(1.0, 4.0),
    true_cfg=3,
    negative_prompt="blurred",
    steps=7,
    shift=Shift(base_tokens=16, max_tokens=64, base_mu=0.25, max_mu=1.5),
    max_sequence_length=77,
    remove_prompt="gone",
    extend_prompt="more",
    size_multiple=8,
    native_size=64,
    max_pixels=4096,
)


@pytest.mark.parametrize("contract", [OTHER, Contract(), *RELEASED.values()])
def test_what_is_saved_is_read_back(contract: Contract, tmp_path: Path) -> None:
    save_contract(tmp_path, contract)
    assert read_contract(tmp_path / "onereward.json") == contract


def test_a_file_without_a_shift_leaves_it_to_the_scheduler(tmp_path: Path) -> None:
    file = tmp_path / "onereward.json"
    file.write_text('{"steps": 8}')
    assert read_contract(file) == Contract(steps=8, shift=None)


def test_the_contracts_of_released_editors() -> None:
    assert set(RELEASED) == {"black-forest-labs/FLUX.1-Fill-dev", "bytedance-research/OneReward"}
    released = RELEASED["bytedance-research/OneReward"]
    assert (released.guidance, released.true_cfg, released.negative_prompt) == (1.0, 4.0, "nsfw")
    assert (released.steps, released.max_sequence_length, released.size_multiple) == (50, 512, 16)
    base = RELEASED["black-forest-labs/FLUX.1-Fill-dev"]
    assert (base.guidance, base.true_cfg, base.steps) == (30.0, 1.0, 50)
    assert released.shift == base.shift == Shift(base_tokens=256, max_tokens=4096, base_mu=0.5, max_mu=1.15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no contract: Expecting property name"),
        ("[8]", "is no contract: expected one JSON object"),
        (
            json.dumps({"steps": 8, "guidence": 1}),
            "has unknown fields guidence; known: guidance, guidance_range, true_cfg",
        ),
        ('{"steps": "8"}', "is no contract: got '8', expected a whole number from 1 up"),
        ('{"steps": 0}', "is no contract: got 0, expected a whole number from 1 up"),
        ('{"guidance": true}', "is no contract: got True for a number"),
        ('{"guidance_range": [1]}', "is no contract: not enough values"),
        ('{"negative_prompt": null}', "is no contract: got None for a text"),
        ('{"shift": {"mu": 1}}', "is no contract: .*unexpected keyword argument 'mu'"),
        ('{"shift": {"base_tokens": 9, "max_tokens": 9}}', "expected base_tokens below max_tokens"),
        ('{"shift": 3}', "is no contract: 'int' object is not iterable"),
    ],
)
def test_a_spoilt_file_is_named_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "onereward.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_contract(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "onereward.json"
    file.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"onereward\.json is no contract: 'utf-8' codec"):
        read_contract(file)


def test_the_words_of_a_task() -> None:
    asked = {"remove": "a cat", "extend": "", "fill": "a cat", "text": 'a sign "A"'}
    words = {task: OTHER.prompt_for(Task(task), prompt) for task, prompt in asked.items()}
    assert words == {"remove": "gone", "extend": "more", "fill": "a cat", "text": 'a sign "A"'}
    with pytest.raises(ValueError, match="task fill got an empty prompt"):
        OTHER.prompt_for(Task.FILL, "")


def test_it_is_shown_as_a_table_and_as_its_file() -> None:
    assert table_of_contract(OTHER) == (
        "guidance          2.5 (made for 1 to 4)\n"
        "true CFG          3\n"
        "negative prompt   blurred\n"
        "steps             7\n"
        "shift             mu 0.25 at 16 tokens, 1.5 at 64\n"
        "prompt of remove  gone\n"
        "prompt of extend  more (if none is given)\n"
        "longest prompt    77 tokens\n"
        "size              squares of 64 pixels a side, in multiples of 8"
    )
    shown = table_of_contract(Contract())
    assert "true CFG          1 (none)" in shown and "negative prompt   (none)" in shown
    assert "the scheduler's own" in shown and "any, up to 2,097,152 pixels, in multiples of 16" in shown
    assert json.loads(json_of_contract(OTHER))["shift"]["max_mu"] == 1.5


def test_it_needs_no_torch() -> None:
    code = "import sys, onereward.models.contract, onereward.models.execution; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
