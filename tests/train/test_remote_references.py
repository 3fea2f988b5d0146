"""Reference rollouts apart, on a real Ray of two nodes: the same run, bit for bit, whoever makes the references."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor, nn

from onereward.ema import WeightCopy
from onereward.losses import Reward
from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.rl import reference_images, reference_of, train
from onereward.rl_terms import Batch, Graded, RLConfig
from onereward.runtime.checkpoint import TrainedParameters
from onereward.runtime.mesh import Mesh
from onereward.runtime.update import Updater
from onereward.terms import Dimension, Task, Triplet
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene
from onereward.train import remote_references
from onereward.train.conditions import Encoder
from onereward.train.delayed_references import DelayedReferences, PastAverages
from onereward.train.draws import Part, draw_slots, parts_of
from onereward.train.remote_references import ActorOptions, ReferenceActor, ReferenceMaker, RemoteReferences
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder

CONFIG = RLConfig(
    dynamic=False,
    task_mix={Task.FILL: 0.5, Task.REMOVE: 0.5},
    batch=3,
    reference_steps=3,
    reference_cache=0.0,
    policy_steps=3,
    graded_steps=1,
    jump_range=(0.15, 0.6),
    bound=1.0,
    decay=0.5,
    reward=Reward.PROBABILITY,
    dimension_weights=dict.fromkeys(Dimension, 1.0),
    anchor=0.0,
    kl=0.0,
    flow_matching=0.0,
    paste_back=True,
    shift=0,
    tone=0.0,
    both_orders=False,
)
Hook = Callable[[int], object]
STEPS = 5
SEED = 3
NO_RAY = "needs Ray: pip install 'onereward[ray]'"
ALONE = Mesh(rank=0, size=1)


class Scenes:
    """Endless toy scenes."""

    name = "toy scenes"

    def draw(self, task: Task, random: Random) -> Triplet:
        places = [place for place, cycled in enumerate(TASK_CYCLE) if cycled is task]
        return make_scene(Split.TRAIN, random.randrange(100) * len(TASK_CYCLE) + random.choice(places)).triplet()

    def all(self) -> None:
        return None


def parts_at(config: RLConfig, step: int) -> list[Part]:
    return list(parts_of(draw_slots(config, SEED, 0, Scenes(), step), 2, ALONE, lambda triplet: 64))


@dataclass(frozen=True, kw_only=True)
class Models:
    """Folders of the smallest real models, and the RL that they are to do."""

    editor: str
    judge: str
    lora_rank: int = 4
    config: RLConfig = CONFIG
    bfloat16: bool = False

    @property
    def maker(self) -> ReferenceMaker:
        return ReferenceMaker(
            load_editor=partial(load_flux_fill, self.editor),
            load_encoder=Encoder,
            config=self.config,
            lora_rank=self.lora_rank,
            bfloat16=self.bfloat16,
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a training came to."""

    losses: list[float]
    probs: list[list[float]]
    weights: dict[str, Tensor]
    staleness: list[int]


class Training:
    """The steps of RL with references from anywhere."""

    def __init__(self, models: Models) -> None:
        self.models, self.config = models, models.config
        self.editor, self.judge = load_flux_fill(models.editor), load_qwen_vl(models.judge)
        transformer = self.editor.transformer
        self.copies: WholeCopies = (
            AdapterCopies(transformer, rank=models.lora_rank, seed=SEED, bfloat16=models.bfloat16)
            if models.lora_rank
            else WholeCopies(transformer, keep_start=not self.config.dynamic, bfloat16=models.bfloat16)
        )
        self.updater = Updater(self.copies.module, learning_rate=0.01, weight_decay=0.0, clip=1.0)

    def here(self, batch: Batch) -> Tensor:
        return reference_images(self.editor, reference_of(self.copies, self.config), batch, self.config)

    def averages(self, staleness: int) -> PastAverages:
        return PastAverages(self.copies.kept_average, staleness)

    def remote(self, address: str, averages: PastAverages | None = None, *, actors: int = 2) -> RemoteReferences:
        return RemoteReferences(
            self.models.maker,
            partial(parts_at, self.config),
            ActorOptions(actors=actors, address=address, ahead=2),
            last_step=STEPS,
            device=torch.device("cpu"),
            averages=averages,
        )

    def run(self, references: Any, *, meanwhile: Hook = lambda step: None, after: Hook = lambda step: None) -> Run:
        """All steps; `meanwhile` is called when a step is done, `after` when the references know of it."""
        encoder, staleness = Encoder(self.editor), []
        batches = ([encoder.batch(part) for part in parts_at(self.config, step)] for step in range(1, STEPS + 1))
        graded: list[Graded] = []
        with references.running(0):
            steps = train(self.copies, self.editor, self.judge, references, batches, self.updater, self.config)
            for step, parts in enumerate(steps, start=1):
                graded += parts
                meanwhile(step)
                staleness.append(references.advance(step))
                after(step)
        return Run(
            losses=[part.loss.item() for part in graded],
            probs=[part.prob_yes_BK.nan_to_num(-1).flatten().tolist() for part in graded],
            weights={name: weight.detach().clone() for name, weight in self.copies.kept_average.values.items()},
            staleness=staleness,
        )


def assert_equal(run: Run, other: Run) -> None:
    assert run.losses == other.losses
    assert run.probs == other.probs
    assert run.weights.keys() == other.weights.keys()
    assert all(torch.equal(weight, other.weights[name]) for name, weight in run.weights.items())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    editor, judge = tiny_flux_fill_folder(folder / "editor"), tiny_judge_folder(folder / "judge")
    return Models(editor=str(editor), judge=str(judge))


@contextmanager
def two_nodes() -> Iterator[Any]:
    """Ray on two nodes of this machine with one CPU each."""
    pytest.importorskip("ray", reason=NO_RAY)
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
    cluster: Any = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with two_nodes() as found:
        yield found


def actors_now() -> set[int]:
    """The processes of the actors on this test's nodes."""
    own = psutil.Process().children(recursive=True)
    return {process.pid for process in own if process.name().startswith("ray::Reference")}


class AsTheyAre:
    """References of this process, and nothing to be told of."""

    def __init__(self, training: Training) -> None:
        self._make = training.here

    def running(self, done: int) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, batch: Batch) -> Tensor:
        return self._make(batch)

    def advance(self, done: int) -> int:
        return 0


def test_algorithm_1_with_an_actor_killed_is_the_run_without_actors(models: Models, cluster: Any) -> None:
    alone = Training(models)
    expected = alone.run(AsTheyAre(alone))
    apart = Training(models)
    before: set[int] = set()

    def kill_one(step: int) -> None:
        if step == 1:
            before.update(actors_now())
            os.kill(min(before), signal.SIGKILL)

    found = apart.run(apart.remote(cluster.address), after=kill_one)
    assert len(before) == 2
    assert_equal(found, expected)


def test_algorithm_2_replays_the_logged_staleness_even_when_it_went_back(models: Models, cluster: Any) -> None:
    dynamic = replace(models, config=replace(CONFIG, dynamic=True))
    here, apart, undelayed = Training(dynamic), Training(dynamic), Training(dynamic)
    averages = here.averages(2)
    expected = here.run(DelayedReferences(here.here, averages), **going_back(here, averages))
    averages = apart.averages(2)
    found = apart.run(apart.remote(cluster.address, averages, actors=1), **going_back(apart, averages))
    assert_equal(found, expected)
    assert found.staleness == expected.staleness == [0, 1, 2, 2, 2]
    assert found.losses != undelayed.run(AsTheyAre(undelayed)).losses


def going_back(training: Training, averages: PastAverages) -> dict[str, Hook]:
    """After step 4 the training is what it was after step 2, as an alarm may have it."""
    parts: dict[str, Any] = {
        "policy": TrainedParameters(training.copies.module),
        "average": training.copies.kept_average,
        "optimizer": training.updater,
        "past": averages,
    }
    kept: dict[str, Any] = {}

    def save(step: int) -> None:
        if step == 2:
            kept.update({name: deepcopy(part.state_dict()) for name, part in parts.items()})

    def load(step: int) -> None:
        if step == 4:
            for name, part in parts.items():
                part.load_state_dict(kept[name])

    return {"meanwhile": load, "after": save}


@pytest.mark.soak
def test_an_actor_whose_machine_is_gone_is_stood_in_for(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_references, "PATIENCE", 5.0)
    alone, apart = Training(models), Training(models)
    expected = alone.run(AsTheyAre(alone))
    with two_nodes() as cluster:
        second = next(iter(cluster.worker_nodes))
        found = apart.run(
            apart.remote(cluster.address), after=lambda step: cluster.remove_node(second) if step == 1 else None
        )
    assert_equal(found, expected)


def test_more_actors_than_ray_has_room_for(models: Models, cluster: Any) -> None:
    references = Training(models).remote(cluster.address, actors=3)
    with pytest.raises(ValueError, match="got 3 reference actors, Ray has 2 CPUs"), references.running(0):
        pass


@pytest.mark.soak
def test_an_editor_that_an_actor_cannot_load(models: Models, cluster: Any) -> None:
    training = Training(models)
    training.models = replace(models, editor="nowhere")
    with pytest.raises(OSError, match=r"a reference actor could not be made.*cannot load an editor from nowhere"):
        training.run(training.remote(cluster.address, actors=1))


def test_a_delay_of_nothing_is_algorithm_2_itself(models: Models) -> None:
    dynamic = replace(models, config=replace(CONFIG, dynamic=True))
    plain, delayed = Training(dynamic), Training(dynamic)
    found = delayed.run(DelayedReferences(delayed.here, delayed.averages(0)))
    assert_equal(found, plain.run(AsTheyAre(plain)))
    assert found.staleness == [0] * STEPS


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_an_actor_makes_what_the_training_would(models: Models, lora_rank: int, dynamic: bool, bfloat16: bool) -> None:
    models = replace(models, config=replace(CONFIG, dynamic=dynamic), lora_rank=lora_rank, bfloat16=bfloat16)
    training, actor = Training(models), ReferenceActor(models.maker, torch.get_num_threads())
    with torch.no_grad():
        for parameter in training.copies.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    training.copies.update_average(0.5)
    values = training.copies.kept_average.values if dynamic else {}
    part = parts_at(models.config, 1)[0]
    version, images = actor.images(part, (1, 1), {name: weight.numpy() for name, weight in values.items()})
    assert version == (1, 1)
    assert torch.equal(torch.tensor(images), training.here(Encoder(training.editor).batch(part)))


class TestPastAverages:
    """A module of one weight, which after step s is s."""

    @staticmethod
    def of(weight: float, staleness: int) -> tuple[WeightCopy, PastAverages]:
        module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(module.weight, weight)
        average = WeightCopy(module)
        return average, PastAverages(average, staleness)

    @staticmethod
    def seen(average: WeightCopy, averages: PastAverages) -> float:
        with averages.oldest_in_place():
            return average.values["weight"].item()

    def test_step_s_is_to_beat_version_s_minus_1_minus_the_staleness(self) -> None:
        average, averages = self.of(0, 2)
        seen, begins = [], []
        for done in range(5):
            average.values["weight"].fill_(done)
            begins.append(averages.keep())
            seen.append(self.seen(average, averages))
            assert average.values["weight"].item() == done
        assert seen == [0, 0, 0, 1, 2]
        assert begins == [True, False, False, False, False]

    def test_resumed_is_never_stopped(self) -> None:
        average, averages = self.of(0, 2)
        for done in range(4):
            average.values["weight"].fill_(done)
            averages.keep()
        resumed_average, resumed = self.of(3, 2)
        resumed.keep()
        resumed.load_state_dict(averages.state_dict())
        assert resumed.keep()
        assert [weights["weight"].item() for weights in resumed.oldest_first()] == [1, 2, 3]
        assert self.seen(resumed_average, resumed) == 1


def test_missing_ray_says_how_to_get_it(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OSError, match=r"pip install 'onereward\[ray\]'"):
        Training(models).remote("nowhere")


def test_no_ray_at_that_address(models: Models) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    references = Training(models).remote("127.0.0.1:1")
    with pytest.raises(OSError, match=r"no Ray answers at 127\.0\.0\.1:1"), references.running(0):
        pass


def test_on_gpus_ray_must_be_told_which_are_left(models: Models) -> None:
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES"):
        RemoteReferences(
            models.maker, lambda step: [], ActorOptions(actors=1), last_step=1, device=torch.device("cuda")
        )


def test_no_actor_at_all() -> None:
    with pytest.raises(ValueError, match="got 0 reference actors"):
        ActorOptions(actors=0)
