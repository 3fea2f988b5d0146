"""Seconds and memory of one step of RL at the size of FLUX.1-Fill and Qwen2.5-VL-7B, ours and written directly.

    python -m benchmarks.rl_size [--sizes 512 1024 --steps 28 --policy-steps 28 --updates 3 --no-direct]

Weights are random, bfloat16 and made on the GPU, so that nothing is fetched: speed and memory do not depend on what
they are. A step is `rl.train`, `Updater` and the trainer's clock on one sample in four dimensions: adapters of rank 64
in float32, activations computed again on the way back, the text encoders gone, the judge's images of 448x448, the jump
from the last third of the policy's steps. All updates of a part draw the same. The first of them warms up and counts
floating point operations (those computed again count too), the median of the others is given; the share is of what a
product of two 8192x8192 matrices reaches in the same run. `direct` is `benchmarks.direct_rl` with adapters of that
rank and the same parts recomputed: three copies of all blocks fit no card of 80 GB, so both run with `--blocks` of
them, and with an anchor. Every part is one line of JSON, printed at once; what did not fit says so. The first line of
stderr says on what this ran; without a GPU tiny models take the big ones' place, and their figures mean nothing.
`--compile` measures ours with compiled blocks and nothing else; `--plan` measures nothing and gives what `onereward
plan` says of the parts on an H100, on any machine, in about a minute each.
"""

import argparse
import gc
import json
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import flux_size, judge_scoring
from benchmarks.direct_rl import DirectAlgorithm1, Samples
from benchmarks.judge_scoring import PROMPT
from onereward.flow.schedule import shifted_times
from onereward.losses import Reward
from onereward.models.attention import without_cudnn
from onereward.models.contract import Contract
from onereward.models.copies import AdapterCopies
from onereward.models.device import Precision
from onereward.models.flux_fill import FluxFill
from onereward.models.load import FLUX_FILL
from onereward.models.qwen_vl import QwenVLJudge
from onereward.plan import ModelShapes, Setup, card_of, editor_shapes, judge_shapes, plan
from onereward.recipes.flux_fill import flux_fill_lora
from onereward.rl import draw_jumps, reference_images, reference_of, train
from onereward.rl_terms import Batch, RLConfig
from onereward.runtime.phases import Phases, take_peak_gib
from onereward.runtime.threads import torch_threads
from onereward.runtime.update import Updater
from onereward.terms import Dimension, Task
from onereward.train.timed import TimedEditor, TimedJudge

KEYS = [(0, 1, 0)]
JUDGE = "Qwen/Qwen2.5-VL-7B-Instruct"
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured."""

    sizes: tuple[int, ...] = (512, 1024)
    reference_steps: int = 28
    policy_steps: int = 28
    updates: int = 3
    rank: int = 64
    judge_size: int = 448
    blocks: tuple[int, int] = (9, 19)
    direct: bool = True
    compile: bool = False
    budget: float = 360.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """How large the models are, where they lie and in what precision."""

    flux: flux_size.Sizes
    judge: judge_scoring.Sizes
    device: torch.device
    dtype: torch.dtype
    matrix: int


GPU = Place(
    flux=flux_size.FLUX,
    judge=judge_scoring.SEVEN_B,
    device=torch.device("cuda"),
    dtype=torch.bfloat16,
    matrix=8192,
)
SMOKE = Place(
    flux=flux_size.TINY,
    judge=judge_scoring.SMALLEST,
    device=torch.device("cpu"),
    dtype=torch.float32,
    matrix=256,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], metavar="PX")
    parser.add_argument("--steps", dest="reference_steps", type=int, default=28, metavar="N", help="to the reference")
    parser.add_argument("--policy-steps", type=int, default=28, metavar="N")
    parser.add_argument("--updates", type=int, default=3, metavar="N", help="timed ones, of which the median counts")
    parser.add_argument("--blocks", type=int, nargs=2, default=[9, 19], metavar="N", help="that ours and direct have")
    parser.add_argument("--direct", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action="store_true", help="only ours, with compiled blocks")
    parser.add_argument("--budget", type=float, default=360, metavar="SECONDS", help="after which no part begins")
    parser.add_argument("--plan", action="store_true", help="what is predicted, instead of measuring")
    args = vars(parser.parse_args())
    is_plan = args.pop("plan")
    settings = Settings(**{**args, "sizes": tuple(args["sizes"]), "blocks": tuple(args["blocks"])})
    if is_plan:
        predict(settings)
    elif torch.cuda.is_available():
        print(f"on {torch.cuda.get_device_name()}: FLUX.1-Fill's and the 7B's size, random weights", file=sys.stderr)
        measure(GPU, settings)
    else:
        print("NO GPU: TINY MODELS ON THE CPU, A SMOKE TEST. THESE FIGURES SAY NOTHING ABOUT FLUX.", file=sys.stderr)
        with torch_threads(1):
            measure(SMOKE, replace(settings, sizes=(64,), judge_size=112, blocks=(1, 1)))


def measure(place: Place, settings: Settings) -> None:
    """All parts, a line each."""
    without_cudnn()
    report = Report(place.device, settings.budget)
    device = Device(peak=0.0)
    report.part("device", partial(_describe, place, device))
    judge = judge_of(place, settings)
    report.part("direct, all blocks", partial(_weights_of_direct, place, judge))
    if settings.compile:
        return _measure_compiled(place, settings, device, judge, report)
    with report.lasting("ours", partial(Ours, place, settings, place.flux, judge)) as ours:
        for (name, size), config in parts_of(settings).items():
            report.part(f"ours, {name}, {size}x{size}", partial(ours.measure, config, size, device))
    if settings.direct:
        fewer = replace(place.flux, transformer_layers=settings.blocks)
        blocks = "+".join(map(str, settings.blocks))
        for contestant, make in (("ours", Ours), ("direct", Direct)):
            models = f"{contestant}, {blocks} blocks"
            with report.lasting(models, partial(make, place, settings, fewer, judge)) as made:
                for size in settings.sizes:
                    config = replace(config_of(settings, size), anchor=flux_fill_lora().anchor)
                    report.part(f"{models}, {size}x{size}", partial(made.measure, config, size, device))
            del made  # its memory is the next one's


def _measure_compiled(place: Place, settings: Settings, device: "Device", judge: QwenVLJudge, report: "Report") -> None:
    with report.lasting("ours, compiled blocks", partial(Ours, place, settings, place.flux, judge)) as ours:
        ours.compile()
        for size in settings.sizes:
            work = partial(ours.measure, config_of(settings, size), size, device)
            report.part(f"ours, compiled blocks, {size}x{size}", work)


def predict(settings: Settings) -> None:
    """A line for each part of ours with all blocks: what the plan says of it before anything is launched."""
    card, _ = card_of("h100")
    models = ModelShapes(editor=editor_shapes(FLUX_FILL), judge=judge_shapes(JUDGE))
    for (name, size), config in parts_of(settings).items():
        setup = Setup(
            precision=Precision.BFLOAT16,
            lora_rank=settings.rank,
            checkpointing=True,
            cache_conditions=True,
            reference_pool=0,
            micro_batch=1,
            judge_pixels=settings.judge_size**2,
            pixels=size**2,
        )
        found = plan(config, setup, models, card)
        line = {
            "part": f"plan, {name}, {size}x{size}",
            "peak_gib": round(found.peak / GIB, 2),
            "at": found.peak_phase,
            "fits": found.fits,
            "seconds": found.seconds and round(found.seconds, 3),
            "phases": {phase.name: phase.seconds and round(phase.seconds, 4) for phase in found.phases},
            "tflop": {phase.name: round(phase.flops / 1e12, 3) for phase in found.phases},
        }
        print(json.dumps(line), flush=True)


def parts_of(settings: Settings) -> dict[tuple[str, int], RLConfig]:
    """What is measured of ours with all blocks, by name and side of the image; the two algorithms come first."""
    sides = {(1, size): config_of(settings, size) for size in settings.sizes}
    sides |= {(2, size): replace(config, dynamic=True) for (_, size), config in sides.items()}
    first, *_ = settings.sizes
    config = config_of(settings, first)
    return {
        **{(f"Algorithm {number}", size): one for (number, size), one in sides.items()},
        ("three graded steps", first): replace(config, graded_steps=3),
        ("8 reference steps", first): replace(config, reference_steps=8),
        ("recipe flux_fill_lora", first): replace(flux_fill_lora(), batch=1),
    }


def config_of(settings: Settings, size: int) -> RLConfig:
    """Algorithm 1 on one sample, nothing added to the reward; jumps from the last third of the steps."""
    times = _times(settings.policy_steps, size)
    first = settings.policy_steps - settings.policy_steps // 3
    return RLConfig(
        dynamic=False,
        task_mix={Task.FILL: 1.0},
        batch=1,
        reference_steps=settings.reference_steps,
        reference_cache=0.0,
        policy_steps=settings.policy_steps,
        graded_steps=1,
        jump_range=(0.0, times[first - 1 : first + 1].mean().item()),
        bound=0.9,
        decay=0.995,
        reward=Reward.PROBABILITY,
        dimension_weights=dict.fromkeys(Dimension, 1.0),
        anchor=0.0,
        kl=0.0,
        flow_matching=0.0,
        paste_back=False,
        shift=0,
        tone=0.0,
        both_orders=False,
    )


@dataclass
class Device:
    """What the device reaches, floating point operations a second."""

    peak: float


class Report:
    """A line of JSON a part, printed as soon as it is known; a part that fails leaves the others their chance."""

    def __init__(self, device: torch.device, budget: float) -> None:
        self._device, self._ends = device, time.monotonic() + budget

    def part(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do it and say what came out."""
        if time.monotonic() > self._ends:
            found: dict[str, Any] = {"skipped": "the budget of seconds is used up"}
        else:
            found = self._tried(work)
        print(json.dumps({"part": name, **found}), flush=True)
        self._free()

    @contextmanager
    def lasting(self, name: str, make: Callable[[], Any]) -> Iterator[Any]:
        """Models for several parts; their memory is free afterwards."""
        made: dict[str, Any] = {}

        def work() -> dict[str, Any]:
            began = time.perf_counter()
            made["models"] = make()
            return {"seconds": round(time.perf_counter() - began, 1), **made["models"].describe()}

        self.part(f"{name}: models", work)
        yield made.pop("models", Missing())
        self._free()

    def _tried(self, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        try:
            return work()
        except torch.OutOfMemoryError as error:
            return {"seconds": None, "peak_gib": None, "out of memory": str(error).splitlines()[0]}
        except Exception as error:  # the card is lent for minutes: what else there is to measure goes on
            traceback.print_exc()
            return {"seconds": None, "error": f"{type(error).__name__}: {error}"}

    def _free(self) -> None:
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


class Missing:
    """Models that could not be made."""

    def measure(self, *_: Any) -> dict[str, Any]:
        return {"seconds": None, "error": "the models could not be made"}

    def compile(self) -> None:
        pass


class Operations(TorchDispatchMode):
    """Counts the floating point operations of what runs inside, also of what is computed again on the way back."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found)
        return found


class CountedPhases(Phases):
    """Phases that count floating point operations too, of what runs inside `operations`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.operations, self.flops = Operations(), Counter[str]()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        is_outermost, before = not self._inside, self.operations.total
        with super().phase(name):
            yield
        if is_outermost:
            self.flops[name] += self.operations.total - before


class Ours:
    """The product: its loop, its update and its clock on adapters."""

    def __init__(self, place: Place, settings: Settings, sizes: flux_size.Sizes, judge: QwenVLJudge) -> None:
        self._place, self._settings = place, settings
        pipeline = flux_size.random_pipeline(sizes, place.device, place.dtype)
        self._editor = FluxFill(**pipeline.components, contract=_contract(place))
        del pipeline  # it holds T5
        self._editor.keep_texts([PROMPT])
        self._editor.free_text_encoders()
        self._transformer: Any = self._editor.transformer
        self._transformer.enable_gradient_checkpointing()
        self._editor.vae.enable_gradient_checkpointing()
        self._is_compiled = False
        bfloat16 = place.dtype == torch.bfloat16
        self._copies = AdapterCopies(self._transformer, rank=settings.rank, seed=0, bfloat16=bfloat16)
        self._phases = CountedPhases(place.device)
        self._updater = Updater(
            self._copies.module, learning_rate=5e-5, weight_decay=0.0, clip=1.0, phase=self._phases.phase
        )
        self._timed_editor = TimedEditor(self._editor, self._copies.policy, self._phases)
        self._timed_judge = TimedJudge(judge, self._phases)

    def describe(self) -> dict[str, Any]:
        return _sizes_of(self._transformer, self._place)

    def compile(self) -> None:
        self._transformer.compile_repeated_blocks()
        self._is_compiled = True

    def measure(self, config: RLConfig, size: int, device: Device) -> dict[str, Any]:
        image_B3HW, mask_B1HW = _picture(size, self._place.device)
        condition = self._editor.encode(image_B3HW, mask_B1HW, [PROMPT])
        batch = Batch(
            task=Task.FILL,
            prompts=[PROMPT],
            keys=KEYS,
            reference_keys=KEYS,
            abreast=KEYS,
            image_B3HW=image_B3HW,
            mask_B1HW=mask_B1HW,
            condition=condition,
        )
        found = clock(partial(self._update, config, batch), self._phases, self._settings, device, not self._is_compiled)
        return {**_steps_of(config, size), **found, "grad_norm": self._updater.last.grad_norm}

    def _update(self, config: RLConfig, batch: Batch) -> float:
        reference = reference_of(self._copies, config)

        def references(batch: Batch) -> Tensor:
            with self._phases.phase("reference rollout"):
                return reference_images(self._timed_editor, reference, batch, config)

        arguments = self._copies, self._timed_editor, self._timed_judge, references, [[batch]], self._updater, config
        for _ in train(*arguments):
            pass
        return self._updater.last.loss


class Direct:
    """Algorithm 1 on the stock parts."""

    def __init__(self, place: Place, settings: Settings, sizes: flux_size.Sizes, judge: QwenVLJudge) -> None:
        self._place, self._settings, self._judge = place, settings, judge
        self._pipeline = flux_size.random_pipeline(sizes, place.device, place.dtype)
        self._pipeline.transformer.enable_gradient_checkpointing()
        self._pipeline.vae.enable_gradient_checkpointing()
        self._phases, self._current = CountedPhases(place.device), ExitStack()
        self._algorithm = DirectAlgorithm1(
            self._pipeline,
            judge,
            config_of(settings, settings.sizes[0]),
            contract=_contract(place),
            learning_rate=5e-5,
            weight_decay=0.0,
            clip=1.0,
            lora_rank=settings.rank,
            phase=self._begin,
        )

    def describe(self) -> dict[str, Any]:
        return _sizes_of(self._pipeline.transformer, self._place)

    def measure(self, config: RLConfig, size: int, device: Device) -> dict[str, Any]:
        image_B3HW, mask_B1HW = _picture(size, self._place.device)
        samples = Samples(
            task=Task.FILL,
            prompts=[PROMPT],
            keys=KEYS,
            reference_keys=KEYS,
            image_B3HW=image_B3HW,
            mask_B1HW=mask_B1HW,
        )
        self._algorithm.config = config
        found = clock(partial(self._update, samples), self._phases, self._settings, device, False)
        return {**_steps_of(config, size), **found}

    def _update(self, samples: Samples) -> float:
        with self._current:
            return self._algorithm.update([samples])

    def _begin(self, name: str) -> None:
        """The phase before ends where the next begins."""
        self._current.close()
        self._current.enter_context(self._phases.phase(name))


def clock(
    update: Callable[[], float], phases: CountedPhases, settings: Settings, device: Device, count: bool
) -> dict[str, Any]:
    """Median seconds of an update and of its phases, peak memory, operations and their share of the device's peak."""
    phases.flops.clear()
    with phases.operations if count else nullcontext():
        losses = [update()]
    flops = dict(phases.flops) if count else {}
    phases.take()
    _synchronize()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    seconds, taken = [], []
    for _ in range(settings.updates):
        began = time.perf_counter()
        losses.append(update())
        _synchronize()
        seconds.append(time.perf_counter() - began)
        taken.append(phases.take())
    by_phase = {name: statistics.median(each.get(name, 0.0) for each in taken) for name in taken[0]}
    whole = statistics.median(seconds)
    rates = {name: flops[name] / by_phase[name] for name in by_phase if flops.get(name) and by_phase[name]}
    return {
        "seconds": round(whole, 3),
        "phases": {name: round(value, 4) for name, value in by_phase.items()},
        "seconds with a pooled reference": round(whole - by_phase.get("reference rollout", 0.0), 3),
        "spread": round(max(seconds) - min(seconds), 3),
        **_memory(),
        "tflop": {name: round(value / 1e12, 3) for name, value in flops.items() if value},
        "share of peak": {name: round(rate / device.peak, 3) for name, rate in rates.items()},
        "share of peak, whole": round(sum(flops.values()) / whole / device.peak, 3) if flops else None,
        "losses": losses,
    }


def judge_of(place: Place, settings: Settings) -> QwenVLJudge:
    """The frozen judge; its activations are computed again on the way back."""
    judge = judge_scoring.random_judge(place.judge, place.device, place.dtype)
    limited = replace(judge.pixels, max_pixels=settings.judge_size**2)
    return QwenVLJudge(judge.model, judge.tokenizer, limited).freeze().recompute_activations()


def _describe(place: Place, device: Device) -> dict[str, Any]:
    """The device, and what it reaches in products of random matrices."""
    with place.device:
        one, other = (torch.randn(place.matrix, place.matrix, dtype=place.dtype) for _ in "12")
    often, rounds = 10, []
    for _ in range(6):
        _synchronize()
        began = time.perf_counter()
        for _ in range(often):
            one @ other
        _synchronize()
        rounds.append((time.perf_counter() - began) / often)
    device.peak = 2 * place.matrix**3 / statistics.median(rounds[1:])
    is_gpu = place.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if is_gpu else "cpu",
        "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / GIB, 2) if is_gpu else None,
        "is_flux_size": place.flux == flux_size.FLUX,
        "dtype": str(place.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "peak_tflop_s": round(device.peak / 1e12, 3),
    }


def _weights_of_direct(place: Place, judge: QwenVLJudge) -> dict[str, Any]:
    """Bytes of the frozen weights alone that the direct version holds: three transformers and all the rest."""
    pipeline = flux_size.random_pipeline(place.flux, torch.device("meta"), place.dtype)
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    gib = {name: _gib(part) for name, part in {**parts, "judge": judge.model}.items()}
    total = sum(gib.values()) + 2 * gib["transformer"]
    fits = total < torch.cuda.get_device_properties(0).total_memory / GIB if torch.cuda.is_available() else None
    return {
        "weights_gib": {name: round(value, 2) for name, value in gib.items()},
        "three_transformers_and_the_rest_gib": round(total, 2),
        "fits": fits,
    }


def _gib(module: torch.nn.Module) -> float:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters()) / GIB


def _sizes_of(transformer: torch.nn.Module, place: Place) -> dict[str, Any]:
    weights = list(transformer.parameters())
    return {
        "weights": sum(weight.numel() for weight in weights if not weight.requires_grad),
        "trained": sum(weight.numel() for weight in weights if weight.requires_grad),
        "allocated_gib": round(torch.cuda.memory_allocated() / GIB, 2) if place.device.type == "cuda" else None,
    }


def _memory() -> dict[str, float | None]:
    """The most that was in use since it was reset, by tensors and by torch."""
    if not torch.cuda.is_available():
        return {"peak_gib": None, "reserved_gib": None}
    reserved = torch.cuda.max_memory_reserved() / GIB
    return {"peak_gib": take_peak_gib(torch.device("cuda")), "reserved_gib": round(reserved, 2)}


def _contract(place: Place) -> Contract:
    return Contract(max_sequence_length=place.flux.text_tokens)


def _picture(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Noise, and a mask that is white in the middle quarter."""
    image_B3HW = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask_B1HW = torch.zeros(1, 1, size, size)
    mask_B1HW[..., size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return image_B3HW.to(device), mask_B1HW.to(device)


def _steps_of(config: RLConfig, size: int) -> dict[str, Any]:
    """Where the time of the rollouts goes."""
    jumps = draw_jumps(KEYS, _times(config.policy_steps, size), config)
    return {
        "reference_steps": config.reference_steps,
        "policy_steps": config.policy_steps,
        "jumps_from": jumps[0].tolist(),
    }


def _times(steps: int, size: int) -> Tensor:
    """FLUX's, at that side of the image."""
    return shifted_times(steps, (size // 16) ** 2)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
