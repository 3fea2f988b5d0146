"""The stage `train-reward`: learns, resumes bit for bit, and shares a batch between processes."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from onereward.models.load_judge import load_qwen_vl
from onereward.query import Variant
from onereward.runtime.update import Optimizer
from onereward.train import reward
from onereward.train.reward import RewardConfig, draw_batch, learning_rate_at, train_reward
from tests.preferences import bright_preference, bright_preferences_folder
from tests.tiny_judge import tiny_judge_folder

STEPS = 6


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_preferences_folder(tmp_path_factory.mktemp("preferences"), 40)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RewardConfig:
    return RewardConfig(
        judge=str(tiny_judge_folder(tmp_path_factory.mktemp("judge"))),
        variant=Variant.TASK_DIMENSION,
        seed=3,
        steps=STEPS,
        batch=6,
        optimizer=Optimizer.ADAMW,
        learning_rate=1e-3,
        warm_up=4,
        cool_down=0.5,
        weight_decay=0.01,
        clip=1.0,
        decay=0.5,
        mirror=True,
        shift=2,
        tone=0.1,
        autocast=False,
        validate_every=3,
        checkpoint_every=2,
    )


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_qwen_vl(str(folder)).model.state_dict()


def _log(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(config: RewardConfig, preferences: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_reward(config, preferences, run, validation=preferences)
    return run


def test_an_epoch_shows_every_preference_once_and_the_next_one_in_another_order(config: RewardConfig) -> None:
    records = [bright_preference(index) for index in range(12)]
    first, second = (
        [preference for step in steps for preference in draw_batch(records, config, step)] for steps in ((1, 2), (3, 4))
    )
    assert sorted(p.triplet_id for p in first) == sorted(p.triplet_id for p in records)
    assert sorted(p.triplet_id for p in second) == sorted(p.triplet_id for p in records)
    assert first != second


def test_the_rate_rises_stays_and_falls(config: RewardConfig) -> None:
    schedule = replace(config, steps=8, learning_rate=4.0, warm_up=2, cool_down=0.5)
    assert [learning_rate_at(step, schedule) for step in range(1, 9)] == [2.0, 4.0, 4.0, 4.0, 4.0, 3.0, 2.0, 1.0]
    flat = replace(schedule, warm_up=0, cool_down=0.0)
    assert {learning_rate_at(step, flat) for step in range(1, 9)} == {4.0}


def test_the_judge_learns_what_wins(config: RewardConfig, preferences: Path, tmp_path: Path) -> None:
    longer = replace(config, steps=40, batch=8, learning_rate=2e-3, validate_every=40, autocast=True, decay=0.8)
    train_reward(longer, preferences, tmp_path / "run", validation=preferences)
    log = _log(tmp_path / "run")
    assert len(log) == 40
    assert log[-1]["validation"]["mean"] > 0.9
    assert set(log[-1]["validation"]) >= {"fill/structure", "remove/removal_quality"}


@pytest.mark.parametrize("optimizer", Optimizer)
def test_stopped_and_resumed_equals_never_stopped(
    optimizer: Optimizer, config: RewardConfig, preferences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, optimizer=optimizer)
    uninterrupted, run = tmp_path / "whole", tmp_path / "run"
    train_reward(config, preferences, uninterrupted, validation=preferences)
    real = reward.update_average

    def stop_at_four(count: list[int], *arguments: object) -> None:
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(reward, "update_average", partial(stop_at_four, []))
    with pytest.raises(KeyboardInterrupt):
        train_reward(config, preferences, run, validation=preferences)
    assert not (run / "final").exists()
    assert len(_log(run)) == 3
    monkeypatch.setattr(reward, "update_average", real)
    train_reward(config, preferences, run, validation=preferences)
    whole, resumed = _weights(uninterrupted / "final"), _weights(run / "final")
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())
    assert _log(run) == _log(uninterrupted)


def test_two_processes_equal_one_up_to_the_order_of_sums(
    config: RewardConfig, preferences: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    train_reward(config, preferences, tmp_path / "run", validation=preferences, processes=2)
    for one, two in zip(_log(uninterrupted), _log(tmp_path / "run"), strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two.get("validation") == one.get("validation")
    whole, shared = _weights(uninterrupted / "final"), _weights(tmp_path / "run" / "final")
    moved = max((whole[name] - tensor).abs().max() for name, tensor in _weights(Path(config.judge)).items())
    difference = max((whole[name] - tensor).abs().max() for name, tensor in shared.items())
    assert difference < 0.02 * moved


def test_a_finished_run_is_left_alone_and_more_steps_continue_it(
    config: RewardConfig, preferences: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train_reward(replace(config, steps=2), preferences, run)
    before = {path: path.stat().st_mtime_ns for path in (run / "final").iterdir()}
    train_reward(replace(config, steps=2), preferences, run)
    assert {path: path.stat().st_mtime_ns for path in (run / "final").iterdir()} == before
    train_reward(replace(config, steps=3), preferences, run)
    assert [line["step"] for line in _log(run)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: replace(config, seed=4), r"seed \(there 3, now 4\)"),
        (lambda config: replace(config, steps=1), r"steps \(there 2, now 1\)"),
    ],
)
def test_another_config_is_refused(
    change: Callable[[RewardConfig], RewardConfig],
    message: str,
    config: RewardConfig,
    preferences: Path,
    tmp_path: Path,
) -> None:
    started = replace(config, steps=2)
    train_reward(started, preferences, tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        train_reward(change(started), preferences, tmp_path / "run")


def test_the_finished_judge_is_the_average(config: RewardConfig, preferences: Path, tmp_path: Path) -> None:
    """With decay 0 it is the last weights, which the checkpoint holds."""
    train_reward(replace(config, steps=2, decay=0.0), preferences, tmp_path / "run")
    last = torch.load(tmp_path / "run" / "checkpoints" / "step-00000002" / "model.pt", weights_only=True)
    final = _weights(tmp_path / "run" / "final")
    assert all(torch.equal(last[name], tensor) for name, tensor in final.items())
