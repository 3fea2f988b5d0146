"""train-rl when something breaks: what the user reads, and that the same command then ends as if nothing had been."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file

from onereward.cli.main import main
from onereward.models.qwen_vl import QwenVLJudge
from onereward.recipes.toy import toy_probe
from onereward.runtime import checkpoint
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder
from tests.train.test_rl import pool_of

STEPS = 5
EVERY = 2


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of five updates by batches of two, graded together, a checkpoint after every second one."""
    folder = tmp_path_factory.mktemp("models")
    editor, judge = tiny_flux_fill_folder(folder / "editor"), tiny_judge_folder(folder / "judge")
    pool_of(toy_probe(16), folder / "triplets")
    changes = ("batch=2", "micro_batch=2", "pixels=1024", "reference_steps=2", "policy_steps=3", "learning_rate=1e-3")
    return [
        *("train-rl", "toy", "--editor", str(editor), "--judge", str(judge), "--input", str(folder / "triplets")),
        *("--steps", str(STEPS), "--tracker", "none", "-q", "--set", f"checkpoint_every={EVERY}"),
        *(word for change in changes for word in ("--set", change)),
    ]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in which nothing breaks."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert main([*words, "--output", str(run)]) == 0
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def fault(words: list[str], run: Path, code: int, said: pytest.CaptureFixture[str], *further: str) -> str:
    """Run the command; it must end with this exit code, and with one line, which is returned."""
    said.readouterr()
    assert main([*words, "--output", str(run), *further]) == code
    [line] = [line for line in said.readouterr().err.splitlines() if line.startswith("onereward: error: ")]
    assert "this is a bug" not in line
    return line


def assert_whole_in_the_end(words: list[str], run: Path, whole: Path, *further: str) -> None:
    """The same command again goes on and leaves what the run in which nothing broke left."""
    assert main([*words, "--output", str(run), *further]) == 0
    expected, found = transformer_of(whole), transformer_of(run)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert losses_of(run) == losses_of(whole) and len(losses_of(run)) == STEPS


def transformer_of(run: Path) -> dict[str, torch.Tensor]:
    """Its folder is the whole of final/ if the text encoders were let go."""
    [weights] = [path for path in run.glob("final/**/diffusion_pytorch_model.safetensors") if path.parent.name != "vae"]
    return load_file(weights)


def losses_of(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def checkpoints_of(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def spoil(patch: pytest.MonkeyPatch, owner: Any, name: str, time: int, spoilt: Callable[..., Any]) -> None:
    """Let the `time`-th call go wrong: `spoilt` is given what the call would have returned, made anew."""
    call, count = getattr(owner, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        made = call(*arguments, **options)
        return spoilt(made) if count[0] == time else made

    patch.setattr(owner, name, counted)


def test_an_answer_that_is_not_a_number_ends_the_run_before_it_touches_a_weight(
    words: list[str], whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        spoil(patch, QwenVLJudge, "prob_yes_both_orders", 4, lambda prob_BK: prob_BK * torch.nan)
        line = fault(words, run, 2, capsys)
    assert "step 4: the loss is nan and the gradient's norm nan, so the step was not taken" in line
    assert "the checkpoint of step 2 is good" in line and "run the same command again to go on" in line
    assert checkpoints_of(run) == ["step-00000002"]
    assert len(losses_of(run)) == 3
    assert_whole_in_the_end(words, run, whole)


def test_one_answer_of_several_that_is_not_a_number_is_not_left_out_in_silence(
    words: list[str], run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil_one(prob_BK: torch.Tensor) -> torch.Tensor:
        spoilt = torch.ones_like(prob_BK)
        spoilt[0, 0] = torch.nan
        return prob_BK * spoilt

    spoil(monkeypatch, QwenVLJudge, "prob_yes_both_orders", 1, spoil_one)
    line = fault(words, run, 2, capsys)
    assert "step 1: the loss is" in line and "the gradient's norm nan" in line and "no checkpoint yet" in line


def test_used_up_memory_names_the_step_the_checkpoint_and_what_to_change(
    words: list[str], whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is to be changed may be changed: the run goes on with it, the same but for rounding."""

    def run_out(_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of")

    with monkeypatch.context() as patch:
        spoil(patch, QwenVLJudge, "prob_yes_both_orders", 3, run_out)
        line = fault(words, run, 1, capsys)
    assert "ran out of memory in step 3 (CUDA out of memory. Tried to allocate 2.00 GiB.)" in line
    assert "the checkpoint of step 2 is good" in line
    assert "--set checkpointing=true or a smaller --set micro_batch=N" in line
    smaller = ("--set", "micro_batch=1", "--set", "checkpointing=true")
    assert main([*words, "--output", str(run), *smaller]) == 0
    assert losses_of(run) == pytest.approx(losses_of(whole), rel=1e-5)
    assert json.loads((run / "config.json").read_text())["micro_batch"] == 1


def test_a_full_disk_at_a_checkpoint_leaves_the_one_before_to_go_on_from(
    words: list[str], whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = checkpoint._write_part

    def write_to_what_is_full(path: Path, state: Any) -> None:
        if "step-00000004" in str(path):
            path.symlink_to("/dev/full")
        write(path, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_part", write_to_what_is_full)
        line = fault(words, run, 1, capsys)
    assert f"the checkpoint of step 4 in {run / 'checkpoints'} could not be written (no space left on device)" in line
    assert "that of step 2 is good" in line and "make room for it, then run the same command again" in line
    assert checkpoints_of(run) == ["step-00000002"]
    assert_whole_in_the_end(words, run, whole)


@pytest.fixture
def cached(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command with what it encodes kept on disk, in a cache that is empty."""
    monkeypatch.setenv("ONEREWARD_CACHE", str(tmp_path / "cache"))
    return [*words, "--set", "cache_conditions=true"]


def spoil_entries(cache: Path, holding: str) -> int:
    """Change a byte of each entry that holds a tensor of this name; returns how many there are."""
    entries = [path for path in cache.glob("conditions/*/*") if holding in load(path.read_bytes()[32:])]
    for path in entries:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    return len(entries)


def test_a_corrupt_cached_picture_is_made_again_and_a_corrupt_text_on_the_next_start(
    cached: list[str],
    whole: Path,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The text encoders are gone when a text's entry is read; the VAE, which pictures need, is not."""
    assert main([*cached, "--output", str(run), "--steps", "1"]) == 0
    assert spoil_entries(tmp_path / "cache", "known_BLC") == 16
    assert main([*cached, "--output", str(run), "--steps", "3"]) == 0
    assert "is corrupt: it is removed and counts as missing" in caplog.text
    texts = spoil_entries(tmp_path / "cache", "tokens_BTD")
    starts = 0
    while main([*cached, "--output", str(run)]) == 2 and starts < texts:  # a start makes one of them again
        said = capsys.readouterr().err
        assert "does not have the encoded prompt" in said and "run the same command again" in said
        starts += 1
    assert starts > 0
    assert_whole_in_the_end(cached, run, whole)


def test_a_missing_shard_of_the_triplets_is_named(
    words: list[str], run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool_of(toy_probe(16), tmp_path / "triplets")
    [shard] = (tmp_path / "triplets").glob("*.parquet")
    shard.unlink()
    line = fault(words, run, 2, capsys, "--input", str(tmp_path / "triplets"))
    assert shard.name in line
    print(line)
    assert not run.exists()


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_part_of_a_checkpoint_that_is_missing_or_damaged_is_named_with_the_way_out(
    damage: str, words: list[str], whole: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--output", str(run), "--steps", "4"]) == 0
    last = run / "checkpoints" / "step-00000004"
    part = last / "average.pt"
    if damage == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:1000])
    line = fault(words, run, 2, capsys)
    assert f"cannot read {part}, the file is {damage}; delete {last} to go on from the checkpoint before it" in line
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    assert_whole_in_the_end(words, run, whole)
