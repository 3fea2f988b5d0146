"""Reference rollouts apart: Ray actors on other cards or machines make the images to beat before they are asked for.

Under Algorithm 1 the reference is frozen, and the images of any step can be made at any time. Under Algorithm 2 those
of step s are made by the average that is to be beaten then (see `delayed_references`) as soon as there is one,
`staleness` steps early. An actor makes the same batch by the same code with the same number of threads as the trainer
would, so on equal machines its images are the same bits. What a lost actor was asked is asked again.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from onereward.models.base import Transformer
from onereward.models.copies import AdapterCopies
from onereward.models.flux_fill import FluxFill
from onereward.rl import reference_images, reference_of
from onereward.rl_terms import Batch, Key, RLConfig
from onereward.train.delayed_references import PastAverages, Weights
from onereward.train.draws import Part

logger = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds after which what is waited for is asked of a further actor: the first may have no machine to come back on."""

Array = numpy.ndarray[Any, Any]


class PartEncoder(Protocol):
    """Makes the algorithm's batches."""

    def batch(self, part: Part) -> Batch:
        """The batch of a part."""
        ...


@dataclass(frozen=True, kw_only=True)
class ActorOptions:
    """Which actors each process of the training has: none of it changes a number."""

    actors: int
    address: str | None = None  # of a running Ray, as `ray.init` takes it; None: one of its own on this machine
    ahead: int = 8  # steps made beforehand under Algorithm 1; under Algorithm 2 the staleness decides

    def __post_init__(self) -> None:
        if self.actors < 1 or self.ahead < 0:
            raise ValueError(f"got {self.actors} reference actors, {self.ahead} steps ahead: expected 1 and 0, or more")


@dataclass(frozen=True, kw_only=True)
class ReferenceMaker:
    """From what an actor is made. It travels: both functions must be picklable, and what they read lie everywhere."""

    load_editor: Callable[[], FluxFill]
    load_encoder: Callable[[FluxFill], PartEncoder]
    config: RLConfig
    lora_rank: int  # of the adapters that alone are trained; 0: all weights
    bfloat16: bool

    def reference(self, transformer: nn.Module) -> tuple[Transformer, Weights]:
        """pi_ref as the training has it, and its tensors that the average's values are put into."""
        if self.lora_rank:
            copies = AdapterCopies(transformer, rank=self.lora_rank, seed=0, bfloat16=self.bfloat16)
            return reference_of(copies, self.config), copies.kept_average.values
        transformer.to(torch.promote_types(next(transformer.parameters()).dtype, torch.float32))

        def call(*inputs: Any, **named: Any) -> Any:
            device = next(transformer.parameters()).device.type
            with torch.autocast(device, torch.bfloat16, enabled=self.bfloat16):
                return transformer(*inputs, **named)

        return call, dict(transformer.named_parameters())


Version = tuple[int, int]
"""How often the training had gone back to a checkpoint, and after which step the average was so."""


class ReferenceActor:
    """Lives in a process of Ray's. What it answers depends on what it is asked alone: another can stand in for it."""

    def __init__(self, maker: ReferenceMaker, threads: int) -> None:
        torch.set_num_threads(threads)
        self._config = maker.config
        self._editor = maker.load_editor()
        self._encoder = maker.load_encoder(self._editor)
        self._reference, self._averaged = maker.reference(self._editor.transformer)
        self._version: Version | None = None

    @torch.no_grad()
    def images(self, part: Part, version: Version, weights: Mapping[str, Array]) -> tuple[Version, Array]:
        """image_reference_B3HW by an average with these weights (none: the frozen start), and by which version."""
        if version != self._version:
            for name, weight in weights.items():
                self._averaged[name].copy_(torch.tensor(weight))
            self._version = version
        images_B3HW = reference_images(self._editor, self._reference, self._encoder.batch(part), self._config)
        return self._version, images_B3HW.cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class _Job:
    part: Part
    version: Version
    weights: Any  # where in Ray's store they lie
    first: int  # of the actors to ask; one after the other, each once
    answers: list[Any] = field(default_factory=list)  # to be, one from each actor that was asked


class RemoteReferences:
    """The references of one process of the training, which asks for them in the order of `parts(step)`.

    `averages` is given under Algorithm 2. Raises OSError if Ray is not installed or does not answer, or if an actor
    cannot be made; ValueError if Ray has no room for them.
    """

    def __init__(
        self,
        maker: ReferenceMaker,
        parts: Callable[[int], Iterable[Part]],
        options: ActorOptions,
        *,
        last_step: int,
        device: torch.device,
        averages: PastAverages | None = None,
    ) -> None:
        if device.type == "cuda" and options.address is None:
            raise ValueError(
                "reference actors on GPUs need a Ray that knows only the cards left to them: "
                "CUDA_VISIBLE_DEVICES=1,2 ray start --head, then --ray auto"
            )
        self._ray = _ray()
        self._maker, self._parts, self._options = maker, parts, options
        self._last_step, self._device, self._averages = last_step, device, averages
        self._actors: list[Any] = []
        self._jobs: dict[tuple[Key, ...], _Job] = {}
        self._asked, self._begun, self._used = 0, 0, 0

    @contextmanager
    def running(self, done: int) -> Iterator[None]:
        """Inside, actors are at work on the steps after `done`."""
        with _connected(self._ray, self._options.address):
            self._require_room()
            self._actors = [self._new_actor() for _ in range(self._options.actors)]
            try:
                if self._averages is not None:
                    self._averages.keep()
                self._begin(done)
                yield
            finally:
                self._jobs.clear()
                for actor in self._actors:
                    self._ray.kill(actor)

    def __call__(self, batch: Batch) -> Tensor:
        """image_reference_B3HW of a batch, waited for if need be."""
        (_, self._used), image_B3HW = self._answer(self._jobs.pop(tuple(batch.keys)))
        return torch.tensor(image_B3HW, device=self._device)

    def advance(self, done: int) -> int:
        """After step `done` and whatever was loaded since: what can be made now is asked for.

        Returns by how many versions that step's reference was late.
        """
        staleness = done - 1 - self._used if self._averages is not None else 0
        if self._averages is not None and self._averages.keep():
            self._begin(done)
        else:
            self._ask_step(done + 1 + self._ahead, done)
        return staleness

    @property
    def _ahead(self) -> int:
        return self._averages.staleness if self._averages is not None else self._options.ahead

    def _begin(self, done: int) -> None:
        """Ask for all that can be made after step `done`; what was asked before is void."""
        self._jobs.clear()
        self._begun += 1
        for step in range(done + 1, done + 2 + self._ahead):
            self._ask_step(step, done)

    def _ask_step(self, step: int, done: int) -> None:
        if step > self._last_step:
            return
        weights: Weights = {}
        version = 0
        if self._averages is not None:
            weights = self._averages.oldest_first()[step - done - 1]
            version = max(0, step - 1 - self._averages.staleness)
        stored = self._ray.put({name: _array(weight) for name, weight in weights.items()})
        for part in self._parts(step):
            job = _Job(part=part, version=(self._begun, version), weights=stored, first=self._asked)
            self._jobs[tuple(part.keys)] = job
            self._asked += 1
            self._ask(job)

    def _ask(self, job: _Job) -> None:
        actor = self._actors[(job.first + len(job.answers)) % len(self._actors)]
        job.answers.append(actor.images.remote(job.part, job.version, job.weights))

    def _answer(self, job: _Job) -> tuple[Version, Array]:
        while not (there := self._ray.wait(job.answers, num_returns=1, timeout=PATIENCE)[0]):
            logger.warning("no reference actor has answered for %.0f s: they are loading, or have no machine", PATIENCE)
            if len(job.answers) < len(self._actors):
                self._ask(job)
        try:
            answer: tuple[Version, Array] = self._ray.get(there[0])
        except self._ray.exceptions.RayActorError as error:
            cause = str(error).strip().splitlines()[-1]
            raise OSError(f"a reference actor could not be made, or cannot come back: {cause}") from error
        return answer

    def _require_room(self) -> None:
        there = self._ray.cluster_resources()
        for what in ("CPU", "GPU") if self._device.type == "cuda" else ("CPU",):
            if there.get(what, 0) < self._options.actors:
                raise ValueError(
                    f"got {self._options.actors} reference actors, Ray has {there.get(what, 0):g} {what}s for them: "
                    "ask for fewer, or join a machine with `ray start --address`"
                )

    def _new_actor(self) -> Any:
        made = self._ray.remote(
            max_restarts=-1,  # without end, and then it is asked again what it had been asked
            max_task_retries=-1,
            num_cpus=1,
            num_gpus=1 if self._device.type == "cuda" else 0,
            scheduling_strategy="SPREAD",
        )
        return made(ReferenceActor).remote(self._maker, torch.get_num_threads())


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OSError("reference actors need the library 'ray': pip install 'onereward[ray]'") from error
    return ray


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """Inside there is Ray: the caller's if it has one, that at `address`, or a new one on this machine."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = {"include_dashboard": False} if address is None else {}
    try:
        if address is not None:
            _require_listener(address)
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
    except OSError as error:
        raise OSError(f"no Ray answers at {address}: start it with `ray start --head`, then --ray auto") from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Ray itself tries for minutes where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _array(weight: Tensor) -> Array:
    """The whole tensor; for one that is split, every process must ask."""
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    array: Array = whole.detach().cpu().numpy()
    return array
