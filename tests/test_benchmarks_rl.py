"""The RL benchmarks in their smallest form: Algorithm 1 on stock parts and ours have equal gradients."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import FluxFillPipeline
from torch import Tensor

from benchmarks import rl_gain, rl_update
from benchmarks.direct_rl import PHASES, DirectAlgorithm1, Samples, move_off
from onereward.losses import Reward
from onereward.models.copies import WholeCopies
from onereward.models.flux_fill import FluxFill
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.recipes.toy import ToyScenes, toy
from onereward.rl import grade, reference_images
from onereward.rl_terms import Batch, RLConfig
from onereward.terms import EXTEND_PROMPT, Dimension, Task
from tests.tiny import TINY_CONTRACT, tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder

CONFIG = RLConfig(
    dynamic=False,
    task_mix=dict.fromkeys(Task, 1.0),
    batch=3,
    reference_steps=2,
    reference_cache=0.0,
    policy_steps=3,
    graded_steps=1,
    jump_range=(0.1, 0.9),
    bound=0.9,
    decay=0.9,
    reward=Reward.PROBABILITY,
    dimension_weights=dict.fromkeys(Dimension, 1.0),
    anchor=0.1,
    kl=0.0,
    flow_matching=0.0,
    paste_back=True,
    shift=2,
    tone=0.1,
    both_orders=True,
)
PROMPTS = {
    Task.FILL: ["a red star", "a blue disc", "a red disc that says a"],
    Task.EXTEND: ["a red star", EXTEND_PROMPT, "a blue disc"],
    Task.REMOVE: ["", "remove", ""],
    Task.TEXT: ["a sign that says a", "a sign", "a red sign that says a"],
}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("both_orders", [False, True])
def test_algorithm_1_on_stock_parts_has_our_gradients(tmp_path: Path, task: Task, both_orders: bool) -> None:
    config = replace(CONFIG, both_orders=both_orders, anchor=CONFIG.anchor if both_orders else 0.0)
    folder, judge = tiny_flux_fill_folder(tmp_path / "editor"), load_qwen_vl(str(tiny_judge_folder(tmp_path / "judge")))
    direct = DirectAlgorithm1(
        FluxFillPipeline.from_pretrained(folder),
        judge,
        config,
        contract=TINY_CONTRACT,
        learning_rate=1e-3,
        weight_decay=0.0,
        clip=1.0,
    )
    move_off(direct.policy)
    generator = torch.Generator().manual_seed(0)
    keys = [(0, 1, slot) for slot in range(3)]
    samples = Samples(
        task=task,
        prompts=PROMPTS[task],
        keys=keys,
        reference_keys=keys,
        image_B3HW=torch.rand(3, 3, 32, 32, generator=generator) * 2 - 1,
        mask_B1HW=torch.zeros(3, 1, 32, 32).index_fill_(3, torch.arange(8, 24), 1),
    )
    loss = direct.accumulate(samples)
    theirs = {name: weight.grad for name, weight in direct.trained.items()}
    our_loss, ours = our_gradients(folder, judge, config, samples)
    assert loss == pytest.approx(our_loss, rel=1e-5)
    difference = max((theirs[name] - ours[name]).abs().max() for name in ours)
    assert difference <= 1e-4 * max(gradient.abs().max() for gradient in ours.values())
    assert max(gradient.abs().max() for gradient in ours.values()) > 0


def test_a_config_that_is_not_algorithm_1_is_refused(tmp_path: Path) -> None:
    for change in ({"dynamic": True}, {"graded_steps": 2}, {"kl": 1.0}, {"reward": Reward.LOG_ODDS}):
        with pytest.raises(ValueError, match="expected Algorithm 1"):
            DirectAlgorithm1(
                None, None, replace(CONFIG, **change), contract=TINY_CONTRACT, learning_rate=0, weight_decay=0, clip=1
            )


def test_an_update_is_timed_and_weighed(tmp_path: Path) -> None:
    config = replace(toy(), batch=2, task_mix={Task.FILL: 0.5, Task.REMOVE: 0.5})
    editor = load_flux_fill(str(tiny_flux_fill_folder(tmp_path / "editor")))
    judge = load_qwen_vl(str(tiny_judge_folder(tmp_path / "judge")))
    found = rl_update.measure(editor, judge, config, ToyScenes(), rounds=1)
    assert found["gradient_difference"] <= rl_update.TOLERANCE
    for task in config.task_mix:
        assert all(ratio > 0 for ratio in found["direct over ours"][task].values())
        for place in (0, 1):  # the phases add up to the update, but for what lies between them
            whole, *phases = (found["seconds"][task][name][place] for name in ("update", *PHASES))
            assert 0.5 * whole < sum(phases) <= whole
    assert set(found["direct over ours, mix"]) == {"update", *PHASES}
    assert found["peak_mib"]["direct, all weights"] > found["peak_mib"]["ours, LoRA"] > 0


def test_other_work_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(toy(), batch=1, task_mix={Task.REMOVE: 1.0})
    editor = load_flux_fill(str(tiny_flux_fill_folder(tmp_path / "editor")))
    judge = load_qwen_vl(str(tiny_judge_folder(tmp_path / "judge")))
    monkeypatch.setattr(rl_update, "_memory_works", lambda *_: {})
    monkeypatch.setattr(rl_update.Ours, "gradients", lambda ours: {"other": torch.ones(1)})
    with pytest.raises(RuntimeError, match="only one has a gradient for"):
        rl_update.measure(editor, judge, config, ToyScenes(), rounds=0)


def test_the_time_is_that_of_the_first_equal_gain_without_a_fall() -> None:
    direct = [{"seconds": 50.0, "gain": 0.2, "fallen": []}, {"seconds": 100.0, "gain": 0.1, "fallen": []}]
    ours = [
        {"seconds": 10.0, "gain": 0.05, "fallen": []},
        {"seconds": 20.0, "gain": 0.11, "fallen": ["fill/structure"]},
        {"seconds": 30.0, "gain": 0.11, "fallen": []},
    ]
    found = rl_gain.compare(direct, ours)
    assert (found["direct_over_ours"], found["reached"], found["goal"]) == (3.33, ours[2], direct[1])
    assert rl_gain.compare(direct, ours[:2])["direct_over_ours"] is None


def test_both_train_and_are_examined() -> None:
    config = replace(toy(), batch=1, steps=2)
    for snapshots in (rl_gain.direct_snapshots, partial(rl_gain.our_snapshots, 4)):
        kept = snapshots(replace(config, reference_pool=int(snapshots is not rl_gain.direct_snapshots)), 1)
        assert [one.updates for one in kept] == [1, 2] and kept[1].seconds > kept[0].seconds > 0
    exam = rl_gain.Exam(config, 1)
    same = replace(kept[0], weights=load_flux_fill("toy").transformer.state_dict())
    assert exam.report(same)["gain"] == 0
    report = exam.report(kept[1])
    assert len(report["differences"]) == 13 and report["fallen"] == []


def our_gradients(
    folder: Path, judge: QwenVLJudge, config: RLConfig, samples: Samples
) -> tuple[float, dict[str, Tensor]]:
    editor = FluxFill(**FluxFillPipeline.from_pretrained(folder).components, contract=TINY_CONTRACT)
    models = WholeCopies(editor.transformer, keep_start=True)
    move_off(models.module)
    prompts = [TINY_CONTRACT.prompt_for(samples.task, prompt) for prompt in samples.prompts]
    batch = Batch(
        task=samples.task,
        prompts=samples.prompts,
        keys=samples.keys,
        reference_keys=samples.reference_keys,
        abreast=samples.keys,
        image_B3HW=samples.image_B3HW,
        mask_B1HW=samples.mask_B1HW,
        condition=editor.encode(samples.image_B3HW, samples.mask_B1HW, prompts),
    )
    references = reference_images(editor, models.start, batch, config)
    [graded] = grade(models, editor, judge, references, batch, config)
    graded.loss.backward()
    return graded.loss.item(), {name: weight.grad for name, weight in models.module.named_parameters()}
