"""The stage `train-rl`: triplets and a judge in, a better editor out, a run folder between (Algorithms 1 and 2).

What happens at a step depends on (config, triplets, step) alone: draws are keyed by the slot in the global batch, and
every condition is encoded by itself, so that neither the number of processes, nor the batch's layout, nor a resume
changes a number beyond its last bits.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onereward.flow.schedule import steps_within
from onereward.models.attention import without_cudnn
from onereward.models.base import Transformer
from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
from onereward.models.qwen_vl import QwenVLJudge
from onereward.rl import reference_images, reference_of, train
from onereward.rl_terms import Batch, Graded
from onereward.runtime.checkpoint import Checkpoints, Stateful, TrainedParameters
from onereward.runtime.mesh import Mesh, launch
from onereward.runtime.phases import Phases, take_peak_gib
from onereward.runtime.shard import shard
from onereward.runtime.threads import torch_threads
from onereward.runtime.track import Log, track
from onereward.runtime.trackers import Trackers, check_trackers
from onereward.runtime.update import NonFiniteError, Updater
from onereward.seeds import python_generator
from onereward.store.cache import Cache
from onereward.store.files import write_atomically
from onereward.store.rundir import RunDir, to_json_values
from onereward.terms import Task, Triplet
from onereward.train.alarms import Action, ProbeFigures, Watch
from onereward.train.conditions import Encoder
from onereward.train.delayed_references import DelayedReferences, PastAverages
from onereward.train.draws import Drawn, Part, TripletSource, draw_slots, parts_of
from onereward.train.figures import Pull, answers_of, clipped_share, gradients_of, mean_reward, pull_of
from onereward.train.probe import Look, Probe
from onereward.train.references import PooledReferences, References, ReferencesHere
from onereward.train.release import write_final
from onereward.train.remote_references import ActorOptions, ReferenceMaker, RemoteReferences
from onereward.train.rl_config import Release, RLRun, TrainRLConfig
from onereward.train.timed import TimedEditor, TimedJudge

logger = logging.getLogger(__name__)

_NAMES = "editor", "judge", "held_out_judge", "triplets"  # a run records by content what these name
_MEMORY = "micro_batch", "checkpointing"  # change last bits only: a run that was out of memory may go on with others


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a training is made from, in a form that other processes can be given: how to load, where to draw."""

    editor: Callable[[], FluxFill]
    judge: Callable[[], QwenVLJudge]
    triplets: TripletSource
    probe: Sequence[Triplet] = ()  # held-out, of which the policy learns nothing
    held_out_judge: Callable[[], QwenVLJudge] | None = None


@dataclass(frozen=True, kw_only=True)
class Means:
    """By what a training runs: none of it changes a number beyond its last bits."""

    processes: int = 1  # on this machine; under torchrun its own processes share the batch
    sharded: bool = False  # the weights are split over the processes (FSDP2)
    offload_idle: bool = (
        False  # what is idle in most of a step lies in the CPU's memory: average, start, held-out judge
    )
    compile: bool = False  # the transformer's blocks
    actors: ActorOptions | None = None  # of Ray, which make the references
    trackers: tuple[str, ...] = ()


def train_rl(config: TrainRLConfig, output: Path, sources: Sources, means: Means | None = None) -> Path:
    """Train an editor and return its folder, `output`/final; run again it goes on, a finished run is left alone.

    Raises ValueError for a run folder of another config, for a task that is drawn but has no triplet, for a jump range
    with too few steps; NonFiniteError if training diverges; OSError for a library or a tracker that is missing.
    """
    means = means or Means()
    check_trackers(means.trackers)
    if means.actors is not None and config.reference_pool:
        raise ValueError("got reference actors and a pool of references: set reference_pool=0, or leave the actors out")
    if (config.held_out_judge is None) != (sources.held_out_judge is None):
        raise ValueError("got held_out_judge in only one of config and sources")
    launch(means.processes, _train, config, output, sources, means)
    return RunDir(output).final


def _train(mesh: Mesh, config: TrainRLConfig, output: Path, sources: Sources, means: Means) -> None:
    run = RunDir(output)
    without_cudnn()
    with torch_threads(config.threads):
        editor = sources.editor()
        recorded = _recorded(mesh, config, editor, sources)
        if mesh.rank == 0:
            run.require_continuable(recorded, (*_NAMES, *_MEMORY))
        if _same_on_all(mesh, run.is_finished(config.steps)):
            return
        if config.cache_conditions or config.reference_pool:
            Cache().check()
        encoder = _encoder(config, editor)
        _check_draws(config, sources.triplets, editor, encoder)
        with run.opened(recorded, (*_NAMES, *_MEMORY)) if mesh.rank == 0 else nullcontext():
            training = _Training(mesh, recorded, run, editor, encoder, sources, means)
            try:
                training.run()
            except torch.OutOfMemoryError as error:
                raise training.out_of_memory(error) from error
            except NonFiniteError as error:
                raise NonFiniteError(f"step {training.step}: {error}; {training.last_good()}") from error


def _recorded(mesh: Mesh, config: TrainRLConfig, editor: FluxFill, sources: Sources) -> RLRun:
    """The config with the content of what it names, found by the first process."""
    hashes: list[str | None] = []
    if mesh.rank == 0:
        held_out = None if sources.held_out_judge is None else fingerprint_of(sources.held_out_judge())
        hashes = [fingerprint_of(editor), fingerprint_of(sources.judge()), held_out]
    editor_weights, judge_weights, held_out_weights = mesh.gather(hashes)
    assert editor_weights is not None and judge_weights is not None
    return RLRun(
        **vars(config),
        editor_weights=editor_weights,
        judge_weights=judge_weights,
        held_out_weights=held_out_weights,
        drawn_from=sources.triplets.name,
    )


def _same_on_all(mesh: Mesh, here: bool) -> bool:
    """What the first process found, so that all do the same; also waits for all."""
    return mesh.gather([here] if mesh.rank == 0 else [])[0]


def _encoder(config: TrainRLConfig, editor: FluxFill) -> Encoder:
    return Encoder(editor, cache=Cache() if config.cache_conditions else None, pixels=config.pixels)


def _check_draws(config: TrainRLConfig, triplets: TripletSource, editor: FluxFill, encoder: Encoder) -> None:
    """One draw of every task: what is wrong with the triplets or the jumps shows before the run begins."""
    if config.cache_conditions and triplets.all() is None:
        raise ValueError("cache_conditions needs triplets that have an end: name a folder of them with --input")
    alone = Mesh(rank=0, size=1)
    for task, share in config.task_mix.items():
        if share > 0:
            key = config.seed, 0, 0
            triplet = triplets.draw(task, python_generator(*key, "triplet"))
            slot = Drawn(triplet=triplet, key=key, reference_key=key)
            [part] = parts_of([slot], 1, alone, encoder.size_of)
            times = editor.times(encoder.batch(part).condition, config.policy_steps)
            steps_within(times, *config.jump_range, at_least=config.graded_steps)


class _Training:
    """One process's part of a run: what is trained, what is kept, and the steps."""

    def __init__(
        self,
        mesh: Mesh,
        config: RLRun,
        run: RunDir,
        editor: FluxFill,
        encoder: Encoder,
        sources: Sources,
        means: Means,
    ) -> None:
        self.mesh, self.config, self.folder, self.editor, self.means = mesh, config, run, editor, means
        self.encoder, self.triplets = encoder, sources.triplets
        self.sharded = means.sharded and mesh.size > 1
        if self.sharded and config.reference_cache:
            raise ValueError("processes that share split weights must all take every block: set reference_cache=0")
        if means.sharded and not self.sharded:
            logger.warning("there is one process, so the weights are not split: start it with torchrun")
        if config.cache_conditions:
            self._encode_all(sources)
        self.saved_dtype = next(editor.transformer.parameters()).dtype
        self.copies = self._copies()  # before the judges come, since splitting it makes room for them
        self.judge, self.held_out = self._judge(sources.judge), None
        if sources.held_out_judge is not None:
            self.held_out = self._judge(sources.held_out_judge)
            if means.offload_idle and not self.sharded:
                self.held_out.model.to("cpu")
        self.phases = Phases(editor.device)
        self.timed = TimedEditor(editor, self.copies.policy, self.phases)
        self.probes = self._probes(sources.probe)
        self.updater = Updater(
            self.copies.module,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip=config.clip,
            phase=self.phases.phase,
        )
        self.watch = Watch(config)
        self.weights: dict[str, Stateful] = {
            "policy": TrainedParameters(self.copies.module),
            "average": self.copies.kept_average,
            "optimizer": self.updater,
        }
        self.past: PastAverages | None = None
        if config.dynamic and (config.staleness or means.actors is not None):
            self.past = PastAverages(self.copies.kept_average, config.staleness)
        if self.past is not None and config.staleness:
            self.weights["past"] = self.past
        self.references = self._references(sources)
        self.checkpoints = Checkpoints(run.checkpoints, keep=2, sharded=self.sharded)
        self.pulls: list[tuple[Any, Any]] = []
        self.step = 0

    def _encode_all(self, sources: Sources) -> None:
        triplets = [*(sources.triplets.all() or ()), *sources.probe]
        with track(len(triplets), "conditions") if self.mesh.rank == 0 else nullcontext(_ignore) as advance:
            self.encoder.encode_all(triplets, self.mesh, advance)
        self.mesh.wait()

    def _copies(self) -> WholeCopies:
        config = self.config
        transformer: Any = self.editor.transformer
        if config.checkpointing:
            transformer.enable_gradient_checkpointing()
            self.editor.vae.enable_gradient_checkpointing()
        split = self._split_transformer if self.sharded else None
        means: Any = {"bfloat16": config.bfloat16, "offload": self.means.offload_idle, "split": split}
        if config.lora_rank:
            copies: WholeCopies = AdapterCopies(transformer, rank=config.lora_rank, seed=config.seed, **means)
        else:
            copies = WholeCopies(transformer, keep_start=config.needs_start, **means)
        if self.means.compile:
            transformer.compile_repeated_blocks()
        return copies

    def _split_transformer(self, transformer: Any) -> None:
        blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        shard(self.mesh, transformer, blocks, self.editor.device, bfloat16=self.config.bfloat16)

    def _judge(self, load: Callable[[], QwenVLJudge]) -> QwenVLJudge:
        judge = load().freeze()
        if self.config.checkpointing:
            judge.recompute_activations()
        if self.sharded:
            blocks = [*judge.model.model.visual.blocks, *judge.model.model.language_model.layers]
            shard(self.mesh, judge.reader, blocks, judge.model.device, bfloat16=False)
        return judge

    def _probes(self, triplets: Sequence[Triplet]) -> list[Probe]:
        held_out = {task: [triplet for triplet in triplets if triplet.task is task] for task in self.config.task_mix}
        return [
            Probe(
                own,
                seed=self.config.seed,
                steps=self.config.reference_steps,
                micro_batch=self.config.micro_batch,
                mesh=self.mesh,
                editor=self.editor,
                encoder=self.encoder,
                judge=self.judge,
                held_out=self.held_out,
                start=self.copies.policy,
            )
            for own in held_out.values()
            if own
        ]

    @property
    def released(self) -> Transformer:
        return self.copies.policy if self.config.release is Release.POLICY else self.copies.average

    @property
    def parts(self) -> dict[str, Stateful]:
        return {**self.weights, "watch": self.watch}

    def run(self) -> None:
        """From the last checkpoint to the finished editor."""
        config, writes = self.config, self.mesh.rank == 0
        self.step = done = self.checkpoints.load_last(self.parts)
        log = Log(self.folder.log)
        if writes:
            log.cut_after(done)
        self.mesh.wait()
        if log.last().get("action") == Action.STOP:
            return self._finish()
        if done == 0 and self.probes and {Action.ROLL_BACK, Action.STOP} & set(config.alarm_actions.values()):
            self._save(0)
        with (
            track(config.steps, "train-rl", done=done) if writes else nullcontext(_ignore) as advance,
            self._trackers(done) as trackers,
            self.references.running(done),
            self.checkpoints,
        ):
            for values, pictures in self._steps(done + 1):
                if writes:
                    log.write(self.step, **values)
                    for name, picture in pictures.items():
                        write_atomically(self.folder.samples / f"step-{self.step:08d}-{name}.png", picture)
                    trackers.log(self.step, values, pictures)
                best = self.watch.best_step == self.step and self.probes
                stopped = values.get("action") == Action.STOP
                if best or stopped or self.step == config.steps or self.step % config.checkpoint_every == 0:
                    self._save(self.step)
                advance(note=f"loss {values['loss']:.3f}")
                if stopped:
                    break
        self._finish()

    def _steps(self, first: int) -> Iterator[tuple[dict[str, Any], Mapping[str, bytes]]]:
        """Each step's log line and pictures."""
        timed_judge = TimedJudge(self.judge, self.phases)
        batches = (self._batches(step) for step in range(first, self.config.steps + 1))
        began = time.monotonic()
        take_peak_gib(self.editor.device)
        arguments = self.copies, self.timed, timed_judge, self._timed_references, batches, self._update, self.config
        for graded in train(*arguments, inspect=self._inspect):
            answers = self.mesh.gather(answers_of(graded))
            values: dict[str, Any] = {
                "task": graded[0].batch.task,
                "loss": float(self.mesh.sum(torch.tensor(self.updater.last.loss, dtype=torch.float64))),
                "grad_norm": self.updater.last.grad_norm,
                "learning_rate": self._learning_rate(),
                "reward": mean_reward(answers),
                "clipped": clipped_share(answers),
            }
            phases = self.phases.take()
            looks = self._looks() if self._is_probed() else {}
            if looks:
                values |= self._watched(values, looks)
            values["staleness"] = self.references.advance(self.step)
            self.checkpoints.check()
            seconds = round(time.monotonic() - began, 3)
            values |= {"seconds": seconds, "phases": phases, "peak_gib": take_peak_gib(self.editor.device)}
            yield values, {str(task): look.picture for task, look in looks.items()}
            began = time.monotonic()

    def _batches(self, step: int) -> Iterator[Batch]:
        self.step = step
        for part in self._parts(step):
            with self.phases.phase("conditions"):
                batch = self.encoder.batch(part)
            yield batch

    def _parts(self, step: int) -> Iterator[Part]:
        slots = draw_slots(self.config, self.config.seed, self.config.reference_pool, self.triplets, step)
        return parts_of(slots, self.config.micro_batch, self.mesh, self.encoder.size_of)

    def _references(self, sources: Sources) -> References:
        """What makes the images to beat: here, from a pool, or by actors elsewhere."""
        config, actors = self.config, self.means.actors
        if actors is not None:
            maker = ReferenceMaker(
                load_editor=sources.editor,
                load_encoder=partial(_encoder, config),
                config=config,
                lora_rank=config.lora_rank,
                bfloat16=config.bfloat16,
            )
            place: dict[str, Any] = {"last_step": config.steps, "device": self.editor.device, "averages": self.past}
            return RemoteReferences(maker, self._parts, actors, **place)
        reference = reference_of(self.copies, config)

        def rollout(batch: Batch) -> Tensor:
            return reference_images(self.timed, reference, batch, config)

        if self.past is not None:
            return DelayedReferences(rollout, self.past)
        if config.reference_pool:
            identity = f"{config.editor_weights}, {config.reference_steps} steps, {config.precision}"
            pooled = PooledReferences(rollout, Cache(), identity, self.mesh if self.sharded else None)
            return ReferencesHere(pooled)
        return ReferencesHere(rollout)

    def _timed_references(self, batch: Batch) -> Tensor:
        with self.phases.phase("reference rollout"):
            return self.references(batch)

    def _update(self, losses: Iterator[Tensor]) -> None:
        def over_all_processes() -> Iterator[Tensor]:
            yield from losses
            if not self.sharded:
                self.mesh.sum_gradients(self.copies.module.parameters())  # the last part has gone backward by now

        self.updater.set_learning_rate(self._learning_rate())
        self.updater(over_all_processes())

    def _learning_rate(self) -> float:
        return self.config.learning_rate * self.watch.rate_scale

    def _is_probed(self) -> bool:
        return bool(self.probes) and (self.step % self.config.probe_every == 0 or self.step == self.config.steps)

    def _looks(self) -> dict[Task, Look]:
        with self._held_out_here():
            return {probe.task: probe.look(self.released) for probe in self.probes}

    @contextmanager
    def _held_out_here(self) -> Iterator[None]:
        """Inside, a held-out judge that is kept in the CPU's memory is where the editor is."""
        judge = self.held_out if self.means.offload_idle and not self.sharded else None
        if judge is not None:
            judge.model.to(self.editor.device)
        yield
        if judge is not None:
            judge.model.to("cpu")

    def _inspect(self, graded: Graded) -> None:
        """At a probe, how the dimensions pull; not where weights are split, which go backward only once."""
        if self._is_probed() and not self.sharded and graded.batch.weight:
            self.pulls.append((graded.dimensions, gradients_of(graded)))

    def _watched(self, values: Mapping[str, Any], looks: Mapping[Task, Look]) -> dict[str, Any]:
        """What the log says of a probe, after the alarms and what they bring about."""
        pull, self.pulls = pull_of(self.pulls) if self.pulls else Pull(norm={}, cosine={}), []
        figures = ProbeFigures(
            step=self.step,
            reward={task: look.win_rate for task, look in looks.items()},
            held_out={task: look.held_out or {} for task, look in looks.items()} if self.held_out else None,
            drift={task: look.drift for task, look in looks.items()},
            others={name: values[name] for name in ("loss", "grad_norm")},
        )
        verdict = self.watch.note(figures)
        found: dict[str, Any] = {
            "win_rate": figures.reward,
            "gradients": {values["task"]: {"norm": pull.norm, "cosine": pull.cosine}},
            "distance": {task: look.distance for task, look in looks.items()},
            "drift": figures.drift,
        }
        if figures.held_out is not None:
            found["held_out"] = figures.held_out
        if verdict.alarms:
            found |= {"alarms": list(verdict.alarms), "action": verdict.action}
            self._act(verdict.action, verdict.alarms)
        return found

    def _act(self, action: Action | None, alarms: Sequence[str]) -> None:
        back = self.watch.best_step
        if self.mesh.rank == 0:
            going_back = f", back to step {back}" if action is Action.ROLL_BACK else ""
            logger.warning("step %d: %s; %s%s", self.step, "; ".join(alarms), action, going_back)
        if action in (Action.ROLL_BACK, Action.STOP):
            self.checkpoints.wait()
            self.mesh.wait()
            self.checkpoints.load(back, self.weights)
            self.mesh.wait()

    def _save(self, step: int) -> None:
        if self.sharded or self.mesh.rank == 0:
            self.checkpoints.save(step, self.parts, also_keep=[self.watch.best_step] if self.probes else [])

    def _trackers(self, done: int) -> Trackers:
        return Trackers(
            self.means.trackers if self.mesh.rank == 0 else (),
            self.folder.path,
            project="onereward",
            run_name=self.folder.path.absolute().name,
            resume_step=done,
            config=to_json_values(self.config),
        )

    def _finish(self) -> None:
        self.checkpoints.wait()
        trained = self.config, self.editor, self.copies
        write_final(self.folder, self.mesh, *trained, dtype=self.saved_dtype, after=self.step)

    def out_of_memory(self, error: BaseException) -> OSError:
        """What to do when the GPU's memory is used up."""
        return OSError(
            f"the GPU ran out of memory in step {self.step} ({str(error).splitlines()[0]}); {self.last_good()}: run "
            "the same command again with --set checkpointing=true or a smaller --set micro_batch=N to go on, or begin "
            "anew on more cards with --sharded; `onereward plan` says what a step needs"
        )

    def last_good(self) -> str:
        """From where the same command would go on."""
        steps = self.checkpoints.steps()
        return f"the checkpoint of step {steps[-1]} is good" if steps else "there is no checkpoint yet"


def _ignore(count: int = 1, note: str = "") -> None:
    """The progress of a process that shows none."""
