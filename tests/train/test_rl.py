"""train-rl on the smallest real editor and judge: resumed = never stopped, the rules of a run folder, its content."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image

from onereward.losses import reward_hinge
from onereward.models.copies import AdapterCopies
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.recipes.toy import ToyScenes, toy, toy_probe
from onereward.rl import reference_images
from onereward.runtime.checkpoint import Checkpoints
from onereward.runtime.mesh import Mesh
from onereward.store.images import encode_png
from onereward.store.shards import run_stage
from onereward.terms import Task, Triplet
from onereward.train.alarms import Action, Alarm
from onereward.train.conditions import Encoder
from onereward.train.draws import TripletPool, TripletSource, draw_slots, parts_of
from onereward.train.rl import Means, Sources, train_rl
from onereward.train.rl_config import Release, TrainRLConfig
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return str(tiny_flux_fill_folder(folder / "editor")), str(tiny_judge_folder(folder / "judge"))


@pytest.fixture
def config(models: tuple[str, str]) -> TrainRLConfig:
    small = {"batch": 2, "micro_batch": 1, "reference_steps": 3, "policy_steps": 3, "steps": 4}
    paces = {"probe_every": 2, "checkpoint_every": 2, "bound": 1.0, "decay": 0.98}
    return replace(toy(dynamic=True), editor=models[0], judge=models[1], **small, **paces)


def trained(config: TrainRLConfig, output: Path, *, probe: int = 6) -> Path:
    return train_rl(config, output, sources_of(config, probe=probe))


def sources_of(config: TrainRLConfig, *, triplets: TripletSource | None = None, probe: int = 6) -> Sources:
    return Sources(
        editor=partial(load_flux_fill, config.editor, dtype=config.precision.dtype),
        judge=partial(load_qwen_vl, config.judge),
        triplets=triplets or ToyScenes(),
        probe=toy_probe(probe),
    )


def log_without_time(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    measured = "seconds", "phases", "peak_gib"
    return [{key: value for key, value in line.items() if key not in measured} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_flux_fill(str(folder)).transformer.state_dict()


def test_resumed_is_never_stopped_bit_for_bit(
    config: TrainRLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    trained(config, whole)
    saved = Checkpoints.save

    def killed_at_the_second(self: Checkpoints, step: int, parts: Any, **options: Any) -> None:
        if step == 4:
            raise KeyboardInterrupt
        saved(self, step, parts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            trained(config, stopped)
    leftover = stopped / "checkpoints" / "step-00000004.part"
    leftover.mkdir()
    (leftover / "policy.pt").write_bytes(b"half a checkpoint")
    trained(config, stopped)
    assert log_without_time(stopped) == log_without_time(whole)
    expected, found = weights(whole / "final"), weights(stopped / "final")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    start = weights(Path(config.editor))
    assert any(not torch.equal(start[name], found[name]) for name in start)


def test_a_finished_run_does_nothing_and_more_steps_continue_it(config: TrainRLConfig, tmp_path: Path) -> None:
    run, longer = tmp_path / "run", tmp_path / "longer"
    trained(replace(config, steps=2), run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != "config.json"}
    trained(replace(config, steps=2), run)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    trained(config, run)
    trained(config, longer)
    assert [line["step"] for line in log_without_time(run)] == [1, 2, 3, 4]
    expected, found = weights(longer / "final"), weights(run / "final")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_another_config_is_an_error_that_lists_the_fields(config: TrainRLConfig, tmp_path: Path) -> None:
    trained(replace(config, steps=1), tmp_path / "run")
    with pytest.raises(ValueError, match=r"bound \(there 1.0, now 0.6\), decay \(there 0.98, now 0.5\)"):
        trained(replace(config, steps=1, bound=0.6, decay=0.5), tmp_path / "run")


def test_another_judge_or_other_triplets_under_the_old_name_are_noticed(config: TrainRLConfig, tmp_path: Path) -> None:
    def train(judge: str, triplets: TripletSource) -> None:
        short = replace(config, steps=1, judge=judge)
        train_rl(short, tmp_path / "run", sources_of(short, triplets=triplets, probe=0))

    train(config.judge, ToyScenes())
    train(config.judge, ToyScenes())
    with pytest.raises(ValueError, match="another config: judge_weights"):
        train(str(tiny_judge_folder(tmp_path / "other", seed=1)), ToyScenes())
    with pytest.raises(ValueError, match="another config: drawn_from"):
        train(config.judge, pool_of(fills(), tmp_path / "fills"))


def test_the_log_has_rewards_by_dimension_and_the_folder_its_parts(config: TrainRLConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(replace(config, steps=2, task_mix={Task.REMOVE: 1.0}), run)
    first, second = log_without_time(run)
    assert first["task"] == "remove" and set(first["reward"]) == {"removal_quality"}
    assert "win_rate" not in first and 0 < second["win_rate"]["remove"]["removal_quality"] < 1
    assert [path.name for path in (run / "samples").iterdir()] == ["step-00000002-remove.png"]
    assert {path.name for path in run.iterdir()} == {"config.json", "log.jsonl", "checkpoints", "samples", "final"}
    shutil.rmtree(run / "checkpoints")  # the finished editor needs nothing else
    assert load_flux_fill(str(run / "final")).contract == load_flux_fill(config.editor).contract


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    pass


def pool_of(triplets: Sequence[Triplet], folder: Path) -> TripletPool:
    """A pool of what a folder holds."""
    run_stage(
        folder,
        kind=Triplet,
        stage="select",
        config=NoConfig(),
        inputs={},
        shard_count=1,
        make_shard=lambda index: list(triplets),
    )
    return TripletPool(folder)


def fills() -> list[Triplet]:
    return [triplet for triplet in toy_probe(16) if triplet.task is Task.FILL]


def test_a_pool_without_a_drawn_task_says_so(tmp_path: Path) -> None:
    pool = pool_of(fills(), tmp_path / "fills")
    assert pool.draw(Task.FILL, Random(0)).task is Task.FILL
    with pytest.raises(ValueError, match=r"no triplet has task remove, tasks there: fill"):
        pool.draw(Task.REMOVE, Random(0))


def test_triplets_of_several_sizes_go_in_parts_of_one_size(config: TrainRLConfig, tmp_path: Path) -> None:
    whole = fills()
    image, mask = encode_png(Image.new("RGB", (32, 16))), encode_png(Image.new("L", (32, 16), 255))
    pool = pool_of([*whole, *(replace(t, id=f"{t.id} small", image=image, mask=mask) for t in whole)], tmp_path)
    mixed = replace(config, batch=8, micro_batch=8, steps=1, task_mix={Task.FILL: 1.0})
    encoder = Encoder(load_flux_fill(config.editor))
    slots = draw_slots(mixed, mixed.seed, 0, pool, 1)
    parts = list(parts_of(slots, mixed.micro_batch, Mesh(rank=0, size=1), encoder.size_of))
    assert {encoder.batch(part).image_B3HW.shape[2:] for part in parts} == {(64, 64), (16, 32)}
    assert sorted(key for part in parts for key in part.keys) == [(config.seed, 1, slot) for slot in range(8)]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_policy_moves_the_way_that_the_judge_says(
    sign: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the shipped models, by edits of held-out scenes: they beat the start's, unless Eq. 5 is turned round."""
    monkeypatch.setattr("onereward.rl.reward_hinge", lambda *what: sign * reward_hinge(*what))
    short = {"steps": 10, "batch": 6, "micro_batch": 6, "probe_every": 10, "checkpoint_every": 10}
    plain = {"learning_rate": 3e-4, "anchor": 0.0, "bound": 1.0, "release": Release.POLICY}
    trained(replace(toy(), task_mix={Task.FILL: 1.0}, **short, **plain), tmp_path / "run", probe=40)
    rates = log_without_time(tmp_path / "run")[-1]["win_rate"]["fill"].values()
    win_rate = sum(rates) / len(rates)
    assert win_rate > 0.55 if sign == 1 else win_rate < 0.51


def test_processes_have_as_many_parts_and_share_every_slot_once(config: TrainRLConfig, tmp_path: Path) -> None:
    """Of batches of two sizes, too: with a policy split over them no process may take a step alone."""
    whole = fills()
    image, mask = encode_png(Image.new("RGB", (32, 16))), encode_png(Image.new("L", (32, 16), 255))
    pool = pool_of([*whole, *(replace(t, id=f"{t.id} small", image=image, mask=mask) for t in whole)], tmp_path)
    size_of = Encoder(load_flux_fill(config.editor)).size_of
    mixed = replace(config, batch=7, micro_batch=2, task_mix={Task.FILL: 1.0})
    for step in range(1, 6):
        slots = draw_slots(mixed, mixed.seed, 0, pool, step)
        shares = [list(parts_of(slots, 2, Mesh(rank=rank, size=3), size_of)) for rank in range(3)]
        assert len({len(share) for share in shares}) == 1
        counted = [key for share in shares for part in share if part.weight for key in part.keys]
        assert sorted(counted) == [slot.key for slot in slots]
        for together in zip(*shares, strict=True):
            assert len({tuple(part.abreast) for part in together}) == 1
            assert len({size_of(triplet) for part in together for triplet in part.triplets}) == 1


def always(action: Action) -> dict[str, Any]:
    """Settings by which every probe sets off an alarm: no dimension wins always."""
    return {"alarm_floor": 1.0, "alarm_patience": 1, "alarm_actions": dict.fromkeys(Alarm, action)}


def with_held_out(config: TrainRLConfig, run: Path, judge: Path) -> Path:
    config = replace(config, held_out_judge=str(judge))
    sources = replace(sources_of(config), held_out_judge=partial(load_qwen_vl, str(judge)))
    return train_rl(config, run, sources, Means(offload_idle=True))


def equal_weights(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_held_out_judge_only_looks_on(config: TrainRLConfig, tmp_path: Path) -> None:
    alone, watched = tmp_path / "alone", tmp_path / "watched"
    trained(config, alone)
    with_held_out(config, watched, tiny_judge_folder(tmp_path / "other", seed=1))
    assert equal_weights(alone / "final", watched / "final")
    last = log_without_time(watched)[-1]
    assert last["held_out"].keys() == last["win_rate"].keys() and last["held_out"] != last["win_rate"]
    assert {"gradients", "distance", "drift", "clipped", "learning_rate", "staleness"} <= last.keys()


def test_a_roll_back_restores_the_best_probe_and_halves_the_rate(config: TrainRLConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(replace(config, **always(Action.ROLL_BACK)), run)
    second, fourth = (log_without_time(run)[step - 1] for step in (2, 4))
    assert second["action"] == fourth["action"] == "roll_back" and "lost against the start" in second["alarms"][0]
    assert [line["learning_rate"] for line in log_without_time(run)] == [3e-5, 3e-5, 1.5e-5, 1.5e-5]
    assert equal_weights(run / "final", Path(config.editor))  # the best was the start, and the last step went back


def test_a_stop_ends_the_run_with_the_best_probe(config: TrainRLConfig, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopping = replace(config, **always(Action.STOP))
    trained(stopping, run)
    assert [line["step"] for line in log_without_time(run)] == [1, 2]
    assert equal_weights(run / "final", Path(config.editor))
    shutil.rmtree(run / "final")  # killed just before it was written
    trained(stopping, run)
    assert len(log_without_time(run)) == 2 and equal_weights(run / "final", Path(config.editor))


def test_a_lower_rate_goes_on_and_a_warning_changes_nothing(config: TrainRLConfig, tmp_path: Path) -> None:
    trained(config, tmp_path / "calm")
    for action, same in ((Action.WARN, True), (Action.LOWER_RATE, False)):
        trained(replace(config, **always(action)), tmp_path / action)
        assert equal_weights(tmp_path / "calm" / "final", tmp_path / action / "final") is same


def test_a_delayed_average_is_resumed_bit_for_bit(config: TrainRLConfig, tmp_path: Path) -> None:
    delayed = replace(config, staleness=2, lora_rank=2)
    trained(delayed, tmp_path / "whole")
    trained(replace(delayed, steps=2), tmp_path / "stopped")
    trained(delayed, tmp_path / "stopped")
    assert [line["staleness"] for line in log_without_time(tmp_path / "whole")] == [0, 1, 2, 2]
    assert equal_weights(tmp_path / "whole" / "final", tmp_path / "stopped" / "final")
    trained(replace(delayed, staleness=0), tmp_path / "latest")
    assert not equal_weights(tmp_path / "whole" / "final", tmp_path / "latest" / "final")


def test_a_pool_makes_each_reference_once(
    config: TrainRLConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEREWARD_CACHE", str(tmp_path / "cache"))
    pool = pool_of(fills()[:1], tmp_path / "fills")
    pooled = replace(config, dynamic=False, reference_pool=2, task_mix={Task.FILL: 1.0})
    for run in ("first", "second"):
        train_rl(pooled, tmp_path / run, sources_of(pooled, triplets=pool, probe=0))
    assert len(list((tmp_path / "cache" / "references").glob("*/*"))) == 2
    assert equal_weights(tmp_path / "first" / "final", tmp_path / "second" / "final")


def test_a_cached_reference_skips_blocks_and_leaves_the_policy_alone(
    config: TrainRLConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = load_flux_fill(config.editor)
    copies = AdapterCopies(editor.transformer, rank=2, seed=0)
    encoder = Encoder(editor)
    slots = draw_slots(config, 0, 0, ToyScenes(), 1)
    [part] = parts_of(slots[:1], 1, Mesh(rank=0, size=1), encoder.size_of)
    batch, many = encoder.batch(part), replace(config, reference_steps=8)
    passes = [0]
    block: Any = editor.transformer.single_transformer_blocks[0].attn
    block.register_forward_hook(lambda *_: passes.append(passes.pop() + 1))
    images = {}
    for cache in (0.0, 1.0, 0.0):
        images[cache] = reference_images(editor, copies.start, batch, replace(many, reference_cache=cache))
        passes.append(0)
    whole, cached, again, _ = passes
    assert whole == again == 8 and cached < 8
    assert (images[0.0] - images[1.0]).abs().max() > 0  # what it skips is not nothing
