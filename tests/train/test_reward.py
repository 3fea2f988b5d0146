"""The stage `train-reward`: learns, resumes bit for bit, and shares a batch between processes."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open

from onereward.models.device import Precision
from onereward.models.load_judge import load_qwen_vl
from onereward.query import Variant
from onereward.runtime.mesh import Mesh
from onereward.runtime.update import Optimizer, Updater
from onereward.terms import Dimension
from onereward.train import reward
from onereward.train.pairs import CELLS
from onereward.train.reward import RewardConfig, learning_rate_at, train_reward
from tests.preferences import bright_preferences_folder
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
        max_pixels=448 * 448,
        lora_rank=0,
        vision=True,
        micro_batch=4,
        sampling=dict.fromkeys(CELLS, 1.0),
        tie_weight=0.5,
        precision=Precision.FLOAT32,
        checkpointing=False,
        patience=0,
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


def test_the_rate_rises_stays_and_falls(config: RewardConfig) -> None:
    schedule = replace(config, steps=8, learning_rate=4.0, warm_up=2, cool_down=0.5)
    assert [learning_rate_at(step, schedule) for step in range(1, 9)] == [2.0, 4.0, 4.0, 4.0, 4.0, 3.0, 2.0, 1.0]
    flat = replace(schedule, warm_up=0, cool_down=0.0)
    assert {learning_rate_at(step, flat) for step in range(1, 9)} == {4.0}


def test_the_judge_learns_what_wins(config: RewardConfig, preferences: Path, tmp_path: Path) -> None:
    longer = replace(
        config, steps=40, batch=8, learning_rate=2e-3, validate_every=40, precision=Precision.BFLOAT16, decay=0.8
    )
    train_reward(longer, preferences, tmp_path / "run", validation=preferences)
    log = _log(tmp_path / "run")
    assert len(log) == 40
    assert log[-1]["validation"]["mean"] > 0.9
    assert set(log[-1]["validation"]) >= {"fill/structure", "remove/removal_quality"}


def stopped_after(config: RewardConfig, updates: int, preferences: Path, run: Path) -> None:
    """A run that Ctrl-C ends in its update number `updates`."""
    real, count = Updater.__call__, iter(range(1, 1000))

    def stop(updater: Updater, losses: Iterator[torch.Tensor]) -> None:
        if next(count) == updates:
            raise KeyboardInterrupt
        real(updater, losses)

    with patch.object(Updater, "__call__", stop), pytest.raises(KeyboardInterrupt):
        train_reward(config, preferences, run, validation=preferences)
    assert not (run / "final").exists()
    assert len(_log(run)) == updates - 1


@pytest.mark.parametrize("optimizer", Optimizer)
def test_stopped_and_resumed_equals_never_stopped(
    optimizer: Optimizer, config: RewardConfig, preferences: Path, tmp_path: Path
) -> None:
    config = replace(config, optimizer=optimizer)
    uninterrupted, run = tmp_path / "whole", tmp_path / "run"
    train_reward(config, preferences, uninterrupted, validation=preferences)
    stopped_after(config, 4, preferences, run)
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
    assert set(final) - set(last) == {"lm_head.weight"}  # tied to the embedding
    assert all(torch.equal(tensor, final[name]) for name, tensor in last.items())


def test_the_run_keeps_no_copy_of_the_data_at_its_end(uninterrupted: Path) -> None:
    assert not (uninterrupted / "data").exists()


def test_micro_batches_are_one_batch_up_to_the_order_of_sums(
    config: RewardConfig, preferences: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    train_reward(replace(config, micro_batch=1), preferences, tmp_path / "run", validation=preferences)
    for many, one in zip(_log(uninterrupted), _log(tmp_path / "run"), strict=True):
        assert one["loss"] == pytest.approx(many["loss"], rel=1e-5)
        assert one["comparisons"] == many["comparisons"]


def test_checkpointing_changes_nothing(config: RewardConfig, preferences: Path, tmp_path: Path) -> None:
    plain, again = (replace(config, steps=3, checkpointing=on) for on in (False, True))
    train_reward(plain, preferences, tmp_path / "plain")
    train_reward(again, preferences, tmp_path / "again")
    assert _log(tmp_path / "plain") == _log(tmp_path / "again")


@pytest.mark.parametrize("vision", [True, False])
def test_an_adapter_is_trained_alone_and_loads_on_its_base(
    vision: bool, config: RewardConfig, preferences: Path, tmp_path: Path
) -> None:
    tuned = replace(config, lora_rank=4, vision=vision, learning_rate=3e-3, decay=0.0)
    train_reward(tuned, preferences, tmp_path / "run", validation=preferences)
    final = tmp_path / "run" / "final"
    assert (final / "adapter_config.json").exists() and not (final / "config.json").exists()
    with safe_open(final / "adapter_model.safetensors", "pt") as tensors:
        names = list(tensors.keys())
    assert all("lora_" in name for name in names)
    assert any("visual" in name for name in names) is vision
    start, merged = load_qwen_vl(config.judge), load_qwen_vl(str(final))
    assert merged.contract.variant is tuned.variant
    moved = {
        name
        for name, tensor in start.model.state_dict().items()
        if not torch.equal(tensor, merged.model.state_dict()[name])
    }
    assert moved and all("proj" in name or "qkv" in name or "mlp" in name for name in moved)
    whole = tmp_path / "whole"
    stopped_after(tuned, 4, preferences, whole)
    train_reward(tuned, preferences, whole, validation=preferences)
    assert _log(whole) == _log(tmp_path / "run")
    resumed = load_qwen_vl(str(whole / "final")).model.state_dict()
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in merged.model.state_dict().items())


def test_a_frozen_vision_tower_stays_as_it_was(config: RewardConfig, preferences: Path, tmp_path: Path) -> None:
    train_reward(replace(config, vision=False, steps=2), preferences, tmp_path / "run")
    before, after = _weights(Path(config.judge)), _weights(tmp_path / "run" / "final")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if "visual" in name}


def test_it_stops_when_validation_gets_no_better_and_keeps_the_best(
    config: RewardConfig, preferences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accuracies .6 .7 .7 .5: after two validations that were not better it stops, and the second was the best."""
    accuracies = {2: 0.6, 4: 0.7, 6: 0.7, 8: 0.5}
    patient = replace(config, steps=20, validate_every=2, patience=2, checkpoint_every=20)

    def told(best: reward.Best, step: int, accuracy: float) -> None:
        _note(best, step, accuracies[step])

    _note = reward.Best.note
    monkeypatch.setattr(reward.Best, "note", told)
    run = tmp_path / "run"
    stopped_after(patient, 5, preferences, run)
    train_reward(patient, preferences, run, validation=preferences)
    assert len(_log(run)) == 8
    assert json.loads((run / "final" / "run.json").read_text())["best_step"] == 4
    best = torch.load(run / "checkpoints" / "step-00000004" / "average.pt", weights_only=True)
    final = _weights(run / "final")
    assert all(torch.equal(tensor, final[name]) for name, tensor in best.items())
    logged = (run / "log.jsonl").read_bytes()
    train_reward(patient, preferences, run, validation=preferences)
    assert (run / "log.jsonl").read_bytes() == logged
    with pytest.raises(ValueError, match="no --validation to go by"):
        train_reward(patient, preferences, tmp_path / "blind")


def test_temperatures_come_from_the_validation_and_change_no_answer(
    config: RewardConfig, tmp_path: Path, uninterrupted: Path
) -> None:
    votes = bright_preferences_folder(tmp_path / "votes", 480)  # 60 a cell of structure, aesthetics, ...
    train_reward(replace(config, steps=2), votes, tmp_path / "run", validation=votes)
    contract = load_qwen_vl(str(tmp_path / "run" / "final")).contract
    assert set(contract.temperatures) == set(Dimension)
    assert any(value != 1 for value in contract.temperatures.values())
    few = load_qwen_vl(str(uninterrupted / "final")).contract
    assert set(few.temperatures.values()) == {1.0}  # 40 pairs are too few


def test_the_best_is_noted() -> None:
    best = reward.Best()
    for step, accuracy in ((2, 0.6), (4, 0.7), (6, 0.7)):
        best.note(step, accuracy)
    assert (best.step, best.accuracy, best.worse) == (4, 0.7, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampling": {"fill/structure": 1.0}}, "expected 0 or more for each of fill/text_alignment"),
        ({"sampling": {**dict.fromkeys(CELLS, 1.0), "fill/structure": -1.0}}, "expected 0 or more"),
        ({"tie_weight": 2.0}, "tie_weight 2.0"),
        ({"micro_batch": 0}, "micro_batch 0"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str, config: RewardConfig) -> None:
    with pytest.raises(ValueError, match=message):
        replace(config, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"optimizer": Optimizer.MUON}, "set optimizer=adamw"), ({"batch": 7}, "expected a multiple of them")],
)
def test_what_cannot_be_sharded_is_refused(change: dict[str, object], said: str, config: RewardConfig) -> None:
    mesh = Mesh(rank=0, size=2)
    reward.check_sharing(replace(config, **change), mesh, sharded=False)
    with pytest.raises(ValueError, match=said):
        reward.check_sharing(replace(config, **change), mesh, sharded=True)
