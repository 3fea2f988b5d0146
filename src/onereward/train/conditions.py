"""What an editor makes of triplets, kept: neither texts nor the blanked image's latents depend on the policy.

Kept in memory and, with a `Cache`, on disk: a prompt apart from the pictures it comes with, since many triplets share
one. Everything is encoded by itself, so that a batch's layout changes no number.

Shape legend: B samples, H W pixels, L latent tokens, C token channels.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

from onereward.edit.regions import Fit, Region
from onereward.models.fingerprint import encoding_fingerprint_of
from onereward.models.flux_fill import FillCondition, FluxFill, Text
from onereward.rl_terms import Batch
from onereward.runtime.mesh import Mesh
from onereward.store.cache import Cache, Shelf, key_of
from onereward.store.images import image_size, image_to_tensor, mask_to_tensor, tensor_to_image, triplet_tensors
from onereward.terms import Triplet
from onereward.train.draws import Part

_MEMORY = 2 * 1024**3

Tensors = Mapping[str, Tensor]


class Encoder:
    """Triplets as the algorithm's batches.

    With `pixels` triplets of a larger area are shrunk to about that, and all sides go to the nearest multiple that the
    editor takes; without it they are as they are. `identity` says by content which editor it is; by default it is taken
    from the parts that encode. Without a cache what is made is kept in memory alone.
    """

    def __init__(
        self, editor: FluxFill, cache: Cache | None = None, pixels: int | None = None, identity: str | None = None
    ) -> None:
        self._editor, self._cache, self._pixels = editor, cache, pixels
        self._identity = encoding_fingerprint_of(editor) if cache is not None and identity is None else identity or ""
        self._identity = key_of(self._identity, str(editor.dtype), editor.device.type)  # these change the last bits
        self._memory = _Memory(_MEMORY)
        self._sizes: dict[str, torch.Size] = {}
        self._freed = False

    def batch(self, part: Part) -> Batch:
        """Triplets of one task and one size with the keys of their draws, on the editor's device.

        Raises ValueError for a corrupt file, and for a prompt that the cache has lost after `encode_all`.
        """
        pictures, device = [self._pictures(triplet) for triplet in part.triplets], self._editor.device
        return Batch(
            task=part.triplets[0].task,
            prompts=[triplet.prompt for triplet in part.triplets],
            keys=part.keys,
            reference_keys=part.reference_keys,
            abreast=part.abreast,
            weight=part.weight,
            image_B3HW=torch.cat([each["image"] for each in pictures]).to(device),
            mask_B1HW=torch.cat([each["mask"] for each in pictures]).to(device),
            condition=FillCondition.concat([self._condition(triplet) for triplet in part.triplets]).to(device),
        )

    def size_of(self, triplet: Triplet) -> torch.Size:
        """Height and width as trained on, without encoding: only triplets of one size make a batch."""
        name = _name_of(triplet)
        if name not in self._sizes:
            size = image_size(triplet.image, f"the image of {triplet.id}")
            region = self._region(*size)
            self._sizes[name] = torch.Size((region.size if region else size)[::-1])
        return self._sizes[name]

    def encode_all(
        self, triplets: Sequence[Triplet], mesh: Mesh, advance: Callable[[int], object] = lambda count: None
    ) -> None:
        """Bring all conditions to the disk, each process its share, then let the text encoders' memory go.

        `advance` is told, after each triplet of the share, for how many of all triplets it stands. Needs a cache; a
        prompt of another triplet is a ValueError from then on.
        """
        assert self._cache is not None, "without a cache nothing is kept that could stand in for the text encoders"
        for place in mesh.share(len(triplets)):
            self._store(triplets[place])
            advance(min(mesh.size, len(triplets) - place))
        mesh.wait()
        first = mesh.rank * len(triplets) // mesh.size
        for triplet in [*triplets[first:], *triplets[:first]]:  # what processes with a disk of their own have on theirs
            self._store(triplet)
        self._editor.free_text_encoders()
        self._freed = True

    def _store(self, triplet: Triplet) -> None:
        assert self._cache is not None
        for key, make in self._pieces(triplet):
            if not self._cache.has(Shelf.CONDITIONS, key):
                self._kept(key, make)

    def _pieces(self, triplet: Triplet) -> Iterator[tuple[str, Callable[[], Tensors]]]:
        """The keys of all that makes up a triplet's condition, and how each is made."""
        for prompt in self._prompts(triplet):
            yield self._text_key(prompt), partial(self._make_text, prompt)
        yield self._known_key(triplet), partial(self._make_known, triplet)

    def _prompts(self, triplet: Triplet) -> list[str]:
        """The words that the editor is given, then those it is steered away from, if any."""
        contract = self._editor.contract
        asked = contract.prompt_for(triplet.task, triplet.prompt)
        return [asked, contract.negative_prompt] if contract.true_cfg > 1 else [asked]

    def _condition(self, triplet: Triplet) -> FillCondition:
        """As `FluxFill.encode` makes it, but in the computer's memory."""
        contract, (height, width) = self._editor.contract, self.size_of(triplet)
        text, *negative = (self._text(prompt) for prompt in self._prompts(triplet))
        known = self._memory.get(f"known {_name_of(triplet)}", lambda: self._known(triplet))
        return FillCondition(
            text=text,
            negative=negative[0] if negative else None,
            known_BLC=known["known_BLC"],
            guidance_B=torch.tensor([contract.guidance]),
            true_cfg_B=torch.tensor([contract.true_cfg]),
            height=height,
            width=width,
        )

    def _text(self, prompt: str) -> Text:
        make = partial(self._make_text, prompt)
        tensors = self._memory.get(f"text {prompt}", lambda: self._kept(self._text_key(prompt), make))
        return Text(tokens_BTD=tensors["tokens_BTD"], pooled_BD=tensors["pooled_BD"])

    def _known(self, triplet: Triplet) -> Tensors:
        return self._kept(self._known_key(triplet), partial(self._make_known, triplet))

    def _text_key(self, prompt: str) -> str:
        return key_of(self._identity, "text", prompt)

    def _known_key(self, triplet: Triplet) -> str:
        fitted = str((self._pixels, self._editor.contract.size_multiple))
        return key_of(self._identity, "known", triplet.image, triplet.mask, fitted)

    def _kept(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """From the disk; what is not there is made, and put there if there is a cache."""
        if self._cache is None:
            return make()
        data = self._cache.get(Shelf.CONDITIONS, key)
        if data is not None:
            return load(data)
        made = make()
        self._cache.put(Shelf.CONDITIONS, key, save(dict(made)))
        return made

    def _make_text(self, prompt: str) -> Tensors:
        if self._freed:
            folder = self._cache.folder if self._cache is not None else None
            raise ValueError(
                f"the cache {folder} does not have the encoded prompt {prompt!r} any more, and the text encoders' "
                "memory was freed: run the same command again, it is made again then"
            )
        text = self._editor.text([prompt])
        return {"tokens_BTD": text.tokens_BTD.cpu().contiguous(), "pooled_BD": text.pooled_BD.cpu().contiguous()}

    def _make_known(self, triplet: Triplet) -> Tensors:
        pictures = self._pictures(triplet)
        return {"known_BLC": self._editor.known(pictures["image"], pictures["mask"]).cpu().contiguous()}

    def _pictures(self, triplet: Triplet) -> Tensors:
        return self._memory.get(f"pictures {_name_of(triplet)}", lambda: self._make_pictures(triplet))

    def _make_pictures(self, triplet: Triplet) -> Tensors:
        image_3HW, mask_1HW = triplet_tensors(triplet)
        region = self._region(image_3HW.shape[2], image_3HW.shape[1])
        if region is not None:
            white = Image.fromarray((mask_1HW[0] * 255).byte().numpy())
            image_3HW = image_to_tensor(region.show(tensor_to_image(image_3HW)))
            mask_1HW = mask_to_tensor(region.show_mask(white))
        return {"image": image_3HW[None], "mask": mask_1HW[None]}

    def _region(self, width: int, height: int) -> Region | None:
        """How a picture of that size is fitted, None if it stays as it is."""
        if self._pixels is None:
            return None
        contract = replace(self._editor.contract, max_pixels=self._pixels, native_size=None)
        region = Region.around((0, 0, width, height), (width, height), contract, Fit.SNAP)
        return None if region.size == (width, height) else region


class _Memory:
    """The tensors used last, up to `bound` bytes of them and always the newest."""

    def __init__(self, bound: int) -> None:
        self._bound, self._bytes = bound, 0
        self._entries: OrderedDict[str, Tensors] = OrderedDict()

    def get(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """What is kept under the key; made if nothing is."""
        if key not in self._entries:
            made = make()
            self._entries[key] = made
            self._bytes += _bytes_of(made)
            while self._bytes > self._bound and len(self._entries) > 1:
                self._bytes -= _bytes_of(self._entries.popitem(last=False)[1])
        self._entries.move_to_end(key)
        return self._entries[key]


def _name_of(triplet: Triplet) -> str:
    """What tells a triplet's pictures from others in this process; two pools may use one id."""
    return f"{triplet.id} {hash((triplet.image, triplet.mask))}"


def _bytes_of(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())
