"""What the policy makes of held-out triplets during RL, beside what the frozen start made of them.

Shape legend: B samples, H W pixels, K dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from torch import Tensor

from onereward.flow.sample import denoise
from onereward.metrics.appearance import Appearance, appearance_drift, appearance_of
from onereward.models.base import Editor, Judge, Transformer
from onereward.query import build_query
from onereward.rl_terms import Batch
from onereward.runtime.mesh import Mesh
from onereward.store.images import encode_png, tensor_to_image
from onereward.terms import Task, Triplet, dimensions_of
from onereward.train.conditions import Encoder
from onereward.train.draws import Drawn, parts_of
from onereward.train.figures import Answer, ByDimension, mean_reward

_PICTURED = 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found of one task: win rates against the start, how the edits changed, and a picture of some (PNG).

    `distance` is the root mean square difference of values in [-1, 1] from the start's edits, inside the mask.
    """

    win_rate: ByDimension
    held_out: ByDimension | None
    drift: Mapping[str, float]
    distance: float
    picture: bytes


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One triplet's share of a look; the images are (source, start's edit, edit now), on the CPU."""

    slot: int
    answers: list[Answer]
    held_out: list[Answer]
    looks: tuple[Appearance, Appearance]
    squared: float
    images: Tensor | None


class Probe:
    """Held-out triplets of one task, on which judges compare full edits with those of the frozen start.

    Made before training begins: the start's edits are then the whole memory of it, also under Algorithm 2. Noise and
    steps are the same at every look. Every process looks at its share.
    """

    def __init__(
        self,
        triplets: Sequence[Triplet],
        *,
        seed: int,
        steps: int,
        micro_batch: int,
        mesh: Mesh,
        editor: Editor,
        encoder: Encoder,
        judge: Judge,
        held_out: Judge | None,
        start: Transformer,
    ) -> None:
        self.task: Task = triplets[0].task
        self._editor, self._judge, self._held_out = editor, judge, held_out
        self._mesh, self._steps = mesh, steps
        slots = []
        for slot, triplet in enumerate(triplets):
            key = (seed, 0, slot)
            slots.append(Drawn(triplet=triplet, key=key, reference_key=key))
        parts = parts_of(slots, micro_batch, mesh, encoder.size_of)
        self._batches: list[Callable[[], Batch]] = [lambda part=part: encoder.batch(part) for part in parts]  # type: ignore[misc]
        self._start = [self._edit(batch(), start).cpu() for batch in self._batches]

    @torch.no_grad()
    def look(self, transformer: Transformer) -> Look:
        """The edits as they are now; all processes call it and get the same. The start itself wins 0.5."""
        seen: list[_Seen] = []
        for make, start_B3HW in zip(self._batches, self._start, strict=True):
            batch = make()
            now_B3HW = self._edit(batch, transformer)
            found = self._compare(batch, now_B3HW, start_B3HW.to(now_B3HW.device))
            seen += found if batch.weight else []
        seen = sorted(self._mesh.gather(seen), key=lambda one: one.slot)
        drift = appearance_drift([one.looks[0] for one in seen], [one.looks[1] for one in seen])
        shown = [one.images for one in seen if one.images is not None]
        return Look(
            win_rate=mean_reward(answer for one in seen for answer in one.answers),
            held_out=mean_reward(answer for one in seen for answer in one.held_out) if self._held_out else None,
            drift=asdict(drift),
            distance=(sum(one.squared for one in seen) / len(seen)) ** 0.5,
            picture=_picture([images for images in shown if images.shape == shown[0].shape]),
        )

    def _compare(self, batch: Batch, now_B3HW: Tensor, start_B3HW: Tensor) -> list[_Seen]:
        dimensions = [dimensions_of(batch.task, prompt) for prompt in batch.prompts]
        queries = [
            [build_query(batch.task, dimension, prompt) for dimension in own]
            for own, prompt in zip(dimensions, batch.prompts, strict=True)
        ]

        def answers(judge: Judge | None) -> list[list[Answer]]:
            if judge is None:
                return [[] for _ in batch.keys]
            prob_BK = judge.prob_yes_both_orders(now_B3HW, start_B3HW, queries).tolist()
            rows = zip(batch.keys, dimensions, prob_BK, strict=True)
            return [[_answer(key[-1], *each) for each in zip(own, row, strict=False)] for key, own, row in rows]

        change_B3HW = torch.where(batch.mask_B1HW > 0, now_B3HW - start_B3HW, 0.0).square()
        squared_B = change_B3HW.sum((1, 2, 3)) / (3 * batch.mask_B1HW.sum((1, 2, 3))).clamp(min=1)
        looks = zip(appearance_of(now_B3HW, batch.mask_B1HW), appearance_of(start_B3HW, batch.mask_B1HW), strict=True)
        shown_nB3HW = torch.stack([batch.image_B3HW.to(now_B3HW.device), start_B3HW, now_B3HW]).cpu()
        return [
            _Seen(
                slot=int(key[-1]),
                answers=own,
                held_out=other,
                looks=pair,
                squared=squared,
                images=shown_nB3HW[:, row] if int(key[-1]) < _PICTURED else None,
            )
            for row, (key, own, other, pair, squared) in enumerate(
                zip(
                    batch.keys,
                    answers(self._judge),
                    answers(self._held_out),
                    looks,
                    squared_B.tolist(),
                    strict=True,
                )
            )
        ]

    @torch.no_grad()
    def _edit(self, batch: Batch, transformer: Transformer) -> Tensor:
        condition = batch.condition
        noise_BLC = self._editor.noise(condition, [(*key, "probe noise") for key in batch.keys])
        latents_BLC = denoise(
            lambda latents, t_B: self._editor.velocity(latents, t_B, condition, transformer=transformer),
            noise_BLC,
            self._editor.times(condition, self._steps),
        )
        return self._editor.decode(latents_BLC, condition)


def _answer(slot: int | str, dimension: object, prob: float) -> Answer:
    return Answer(slot=int(slot), dimension=dimension, prob=prob, clipped=False)  # type: ignore[arg-type]


def _picture(shown: Sequence[Tensor]) -> bytes:
    """A row a triplet: its source, the start's edit and the edit now."""
    return encode_png(tensor_to_image(rearrange(torch.stack(list(shown)), "B n c H W -> c (B H) (n W)")))
