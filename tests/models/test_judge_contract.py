"""The file that says how a judge is asked and read: written, read back, refused when it is spoilt."""

import json
import math
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onereward.models.judge_contract import (
    JUDGE_CONTRACT_FILE,
    JudgeContract,
    Probability,
    read_judge_contract,
    save_judge_contract,
)
from onereward.query import Variant
from onereward.terms import Dimension

contracts = st.builds(
    JudgeContract,
    answers=st.lists(st.text(max_size=5), min_size=2, max_size=2, unique=True).map(lambda pair: (pair[0], pair[1])),
    probability=st.sampled_from(Probability),
    variant=st.sampled_from(Variant),
    temperatures=st.dictionaries(
        st.sampled_from(Dimension), st.floats(0, allow_infinity=False, exclude_min=True), max_size=5
    ),
)


@given(contracts)
def test_what_is_saved_is_read_back(contract: JudgeContract) -> None:
    with TemporaryDirectory() as folder:
        save_judge_contract(Path(folder), contract)
        assert read_judge_contract(Path(folder) / JUDGE_CONTRACT_FILE) == contract


def test_the_file_is_plain(tmp_path: Path) -> None:
    save_judge_contract(tmp_path, JudgeContract(temperatures={Dimension.STRUCTURE: 1.5}))
    assert json.loads((tmp_path / "onereward.json").read_text()) == {
        "answers": ["yes", "no"],
        "probability": "binary",
        "variant": "task_dimension",
        "temperatures": {"structure": 1.5},
    }


@given(contracts, st.sets(st.sampled_from(list(asdict(JudgeContract())))))
def test_what_a_file_leaves_out_has_its_default(contract: JudgeContract, kept: set[str]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "onereward.json"
        file.write_text(json.dumps({name: value for name, value in asdict(contract).items() if name in kept}))
        assert read_judge_contract(file) == replace(JudgeContract(), **{name: getattr(contract, name) for name in kept})


def test_a_dimension_without_a_temperature_has_one_of_1() -> None:
    contract = JudgeContract(temperatures={Dimension.STRUCTURE: 1.5})
    assert [contract.temperature(dimension) for dimension in Dimension] == [
        1.5 if dimension is Dimension.STRUCTURE else 1.0 for dimension in Dimension
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", r"got \[\], expected an object with some of answers, probability"),
        ('{"guidance": 1, "steps": 2}', "got guidance, steps, expected some of answers, probability"),
        ('{"answers": ["yes", "yes"]}', r"got answers \['yes', 'yes'\], expected two different words"),
        ('{"answers": ["yes"]}', "expected a list of two words"),
        ('{"answers": "no"}', "got answers 'no', expected a list of two words"),
        ('{"answers": [1, 2]}', "expected a list of two words"),
        ('{"answers": null}', "expected a list of two words"),
        ('{"probability": "half"}', "got probability 'half', expected one of full, binary"),
        ('{"probability": ["full"]}', "expected one of full, binary"),
        ('{"variant": "all"}', "got variant 'all', expected one of pair, task, task_dimension, fixed_query"),
        ('{"temperatures": {"beauty": 1}}', "got dimension 'beauty', expected one of text_alignment, "),
        ('{"temperatures": [1]}', "expected an object of numbers by dimension"),
        ('{"temperatures": {"structure": 0}}', "got a temperature of 0.0 for structure, expected a number above 0"),
        ('{"temperatures": {"structure": -1}}', "expected a number above 0"),
        ('{"temperatures": {"structure": true}}', "got a temperature of True, expected a number above 0"),
        ('{"temperatures": {"structure": "2"}}', "got a temperature of '2'"),
        ('{"temperatures": {"structure": null}}', "got a temperature of None"),
        ('{"temperatures": {"structure": 1e999}}', "got a temperature of inf"),
        ('{"temperatures": {"structure": NaN}}', "got a temperature of nan"),
    ],
)
def test_a_spoilt_file_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "onereward.json"
    file.write_text(text)
    with pytest.raises(
        ValueError, match=rf"^.*onereward\.json is no judge's contract: .*{message}.*; correct it or remove it$"
    ):
        read_judge_contract(file)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_contract_is_never_senseless(temperature: float) -> None:
    with pytest.raises(ValueError, match="two different words"):
        JudgeContract(answers=("yes", "yes"))
    with pytest.raises(ValueError, match="for structure, expected a number above 0"):
        replace(JudgeContract(), temperatures={Dimension.STRUCTURE: temperature})


def test_it_needs_no_torch() -> None:
    code = "import sys, onereward.models.judge_contract; print({'torch', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
