"""data, select, generate and annotate as a user runs them, on a tiny editor and a tiny CLIP."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from onereward.cli.main import main
from onereward.store.shards import read_manifest, read_records
from onereward.terms import Candidate, Preference, Task, Triplet
from tests.tiny import tiny_flux_fill_folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_flux_fill_folder(folder / "editor")
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(vision).save_pretrained(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def chain(models: Path) -> Path:
    """Four folders, each made from the one before it, and the vote database."""
    for words in (
        ["data", "toy", "--output", "pool", "--count", "12"],
        ["select", "--input", "pool", "--output", "triplets", "--count", "6", "--clip", "clip"],
        ["generate", "--input", "triplets", "--output", "candidates", "--editor", "editor", "--candidates", "3",
         "--steps", "1", "--true-cfg", "1", "--batch-size", "8"],
        [*ORACLE],
    ):  # fmt: skip
        assert main(_in(models, words)) == 0
    return models


ORACLE = ("annotate", "oracle", "--input", "triplets", "--candidates", "candidates", "--database", "votes.sqlite",
          "--output", "preferences")  # fmt: skip
FILES = {"pool", "triplets", "candidates", "preferences", "votes.sqlite", "editor", "clip"}


def _in(folder: Path, words: list[str]) -> list[str]:
    """The words with every file name put into `folder`."""
    return [str(folder / word) if word in FILES and words[at - 1].startswith("--") else word
            for at, word in enumerate(words)]  # fmt: skip


def test_each_stage_hands_on_what_the_next_one_reads(chain: Path) -> None:
    triplets = list(read_records(chain / "triplets", Triplet))
    candidates = list(read_records(chain / "candidates", Candidate))
    preferences = list(read_records(chain / "preferences", Preference))
    assert len(triplets) == 6 and len(candidates) == 18 and preferences
    images = {(candidate.triplet_id, candidate.index): candidate.image for candidate in candidates}
    for preference in preferences:
        assert images[preference.triplet_id, preference.winner_index] == preference.winner
        assert images[preference.triplet_id, preference.loser_index] == preference.loser
        assert preference.winner_index != preference.loser_index and preference.voter == "toy-oracle"
    config = read_manifest(chain / "candidates").plan.config
    assert config["steps"] == [1] and config["true_cfg"] == [1.0] and config["guidance"] == [2.0, 5.0]


def test_the_oracle_asked_again_adds_nothing(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(chain / "votes.sqlite") as connection:
        before = connection.execute("SELECT count(*) FROM votes").fetchone()
        assert main(_in(chain, [*ORACLE, "--json"])) == 0
        assert connection.execute("SELECT count(*) FROM votes").fetchone() == before
    printed = json.loads(capsys.readouterr().out)
    assert printed["preferences"] == sum(cell["votes"] - cell["skips"] for cell in printed["skips"])
    assert sum(cell["votes"] for cell in printed["skips"]) == before[0]


def test_export_prints_the_share_of_skips(chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["annotate", "export", *ORACLE[2:-1], str(tmp_path / "again")]
    assert main(_in(chain, words)) == 0
    printed = capsys.readouterr().out
    assert "skipped" in printed and "structure" in printed and "%" in printed
    assert read_manifest(tmp_path / "again") == read_manifest(chain / "preferences")


def test_data_of_some_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "toy", "--output", str(tmp_path / "pool"), "--count", "3", "--tasks", "remove", "--split", "test"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["triplets"] == 3
    assert {triplet.task for triplet in read_records(tmp_path / "pool", Triplet)} == {Task.REMOVE}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "toy", "--output", "x", "--count", "3", "--split", "dev"], "unknown split 'dev'; the splits are"),
        (["data", "toy", "--output", "x", "--count", "3", "--tasks", "draw"], "invalid choice: 'draw'|invalid Task"),
        (["select", "--input", "nowhere", "--output", "x", "--count", "3"], "no folder nowhere"),
        (["select", "--input", "pool", "--output", "x", "--count", "99", "--clip", "clip"], "expected 1 to 12"),
        (["select", "--input", "candidates", "--output", "x", "--count", "2", "--clip", "clip"], "expected Triplet"),
        (["generate", "--input", "triplets", "--output", "x", "--editor", "gone"], "cannot load an editor from gone"),
        (["generate", "--input", "triplets", "--output", "candidates", "--editor", "editor"], "other settings"),
        (["annotate", "export", *ORACLE[2:6], "--database", "gone", "--output", "x"], "there is no database at gone"),
        (["annotate", "oracle", *ORACLE[2:-1], "triplets"], "holds triplets, not preferences: choose another --output"),
        (["annotate", "import", *ORACLE[2:6], "--database", "y", "--annotators", "0"], "got --annotators 0, expected"),
        (["annotate", "oracle", "--input", "pool", *ORACLE[4:]], "were not made from"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_exit_code_2(
    chain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(_in(chain, words)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and any(part in error for part in message.split("|"))
    assert not list(tmp_path.iterdir())


def test_a_finished_shard_that_changed_is_exit_code_2(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "toy", "--output", str(tmp_path / "pool"), "--count", "2"]) == 0
    shard = tmp_path / "pool" / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    capsys.readouterr()
    words = ["select", "--input", str(tmp_path / "pool"), "--output", str(tmp_path / "x"), "--count", "1"]
    assert main([*words, "--clip", str(chain / "clip")]) == 2
    assert "shard-00000.parquet was changed after it was finished" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
