"""The images that the policy must beat: a new one for every sample, or of a pool in which each is made once.

Shape legend: B samples, H W pixels.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from onereward.rl_terms import Batch
from onereward.runtime.mesh import Mesh
from onereward.store.cache import Cache, Shelf, key_of
from onereward.store.images import decode_image, encode_png, image_to_tensor, tensor_to_image


class References(Protocol):
    """What makes the images to beat, over a run."""

    def running(self, done: int) -> AbstractContextManager[None]:
        """Inside, the steps after `done` are taken."""
        ...

    def __call__(self, batch: Batch) -> Tensor:
        """image_reference_B3HW."""
        ...

    def advance(self, done: int) -> int:
        """After step `done` and whatever was loaded since; returns by how many versions its reference was late."""
        ...


@dataclass(frozen=True)
class ReferencesHere:
    """References that `make` makes in this process when they are asked for (implements `References`)."""

    make: Callable[[Batch], Tensor]

    def running(self, done: int) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, batch: Batch) -> Tensor:
        return self.make(batch)

    def advance(self, done: int) -> int:
        return 0


class PooledReferences:
    """Reference images that are made once and kept in the cache; for a reference that does not change (Algorithm 1).

    `make` is asked for one sample at a time, so that neither the batch's layout nor a resume changes an image.
    `identity` says by content all else that decides it: the reference's weights and contract, its steps and precision.
    `mesh` are the processes over which its weights are split, if they are: all then make an image when one needs it.

    The images are kept with 8 bits a colour, and the judge sees them so from the first time on: clamped to [-1, 1] and
    within half a grey level of the rollout's.
    """

    def __init__(self, make: Callable[[Batch], Tensor], cache: Cache, identity: str, mesh: Mesh | None = None) -> None:
        self._make, self._cache, self._identity, self._mesh = make, cache, identity, mesh

    def __call__(self, batch: Batch) -> Tensor:
        """image_reference_B3HW of the samples' `reference_keys`; what the cache does not have is made."""
        images = [image_to_tensor(decode_image(png)) for png in self._pngs(batch)]
        return torch.stack(images).to(batch.image_B3HW)

    def fill(self, parts: Iterable[Batch], advance: Callable[[], object] = lambda: None) -> None:
        """Make what the cache does not have of these batches; `advance` is called after each."""
        for batch in parts:
            self._pngs(batch)
            advance()

    def _pngs(self, batch: Batch) -> list[bytes]:
        keys = [self._key(batch, place) for place in range(len(batch.keys))]
        found = {key: self._cache.get(Shelf.REFERENCES, key) for key in keys}
        pngs = {key: png for key, png in found.items() if png is not None}
        missing = [key for key in found if key not in pngs]
        for turn in range(self._turns(len(missing))):
            key = missing[turn] if turn < len(missing) else keys[0]  # no image is missing here, but elsewhere
            image_13HW = self._make(only(batch, keys.index(key)))
            if key not in pngs:
                pngs[key] = encode_png(tensor_to_image(image_13HW[0]))
                self._cache.put(Shelf.REFERENCES, key, pngs[key])
        return [pngs[key] for key in keys]

    def _turns(self, missing: int) -> int:
        """How many images are made now, by every process."""
        return missing if self._mesh is None else max(self._mesh.gather([missing]))

    def _key(self, batch: Batch, place: int) -> str:
        """Of all that decides the image; the triplet's id in the noise's key does not say what its pictures show."""
        image = tensor_to_image(batch.image_B3HW[place])
        mask_HW = (batch.mask_B1HW[place, 0] > 0).cpu().numpy()
        asked = repr((batch.task.value, batch.prompts[place], batch.reference_keys[place], image.size))
        return key_of(self._identity, asked, image.tobytes(), mask_HW.tobytes())


def only(batch: Batch, place: int) -> Batch:
    """One sample of a batch, as a batch."""
    one = slice(place, place + 1)
    return replace(
        batch,
        prompts=batch.prompts[one],
        keys=batch.keys[one],
        reference_keys=batch.reference_keys[one],
        image_B3HW=batch.image_B3HW[one],
        mask_B1HW=batch.mask_B1HW[one],
        condition=batch.condition.select([place]),
    )
