"""Conditions kept in memory and on disk equal those the editor makes, bit for bit, whatever the batch's layout."""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from onereward.models.fingerprint import encoding_fingerprint_of
from onereward.models.flux_fill import FillCondition, FluxFill
from onereward.models.load import load_flux_fill
from onereward.runtime.mesh import Mesh
from onereward.store.cache import Cache
from onereward.store.images import encode_png, triplet_tensors
from onereward.terms import Task, Triplet
from onereward.train import conditions
from onereward.train.conditions import Encoder
from onereward.train.draws import Part
from tests.pictures import hole, noise
from tests.tiny import TINY_CONTRACT, tiny_flux_fill_folder

ALONE = Mesh(rank=0, size=1)
PROMPTS = "a red star", "a blue disc", "a sign", "a disc that says a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_flux_fill_folder(tmp_path_factory.mktemp("editor")))


@pytest.fixture(autouse=True)
def _leave_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting what freed text encoders leave takes a second each time."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


class Counted(FluxFill):
    """An editor that counts what it is asked to encode."""

    asked: "Counter[str]"

    def text(self, prompts: Sequence[str]) -> Any:
        self.asked.update(prompts)
        return super().text(prompts)

    def known(self, image_B3HW: Tensor, mask_B1HW: Tensor, generators: Any = None) -> Tensor:
        self.asked["picture"] += 1
        return super().known(image_B3HW, mask_B1HW, generators)


def loaded(folder: str, *, true_cfg: float = 1.0) -> Counted:
    editor = load_flux_fill(folder)
    editor.contract = replace(editor.contract, true_cfg=true_cfg, negative_prompt="nsfw")
    editor.__class__ = Counted
    assert isinstance(editor, Counted)
    editor.asked = Counter()
    return editor


def triplet(index: int, *, size: tuple[int, int] = (32, 24), name: str = "") -> Triplet:
    picture = numpy.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    return Triplet(
        id=name or f"t{index}",
        task=Task.FILL,
        prompt=PROMPTS[index % len(PROMPTS)],
        image=encode_png(Image.fromarray(picture)),
        mask=encode_png(hole(size, (4, 4, 8 + index, 16))),
    )


def part(*triplets: Triplet) -> Part:
    keys = [(0, 1, slot) for slot in range(len(triplets))]
    return Part(triplets=triplets, keys=keys, reference_keys=keys, abreast=keys, weight=1.0)


def condition(encoder: Encoder, *triplets: Triplet) -> FillCondition:
    made = encoder.batch(part(*triplets)).condition
    assert isinstance(made, FillCondition)
    return made


def same(one: FillCondition, other: FillCondition) -> bool:
    assert (one.height, one.width, one.negative is None) == (other.height, other.width, other.negative is None)
    pairs = [(one.text, other.text), (one.negative or one.text, other.negative or other.text)]
    return (
        all(torch.equal(a.tokens_BTD, b.tokens_BTD) and torch.equal(a.pooled_BD, b.pooled_BD) for a, b in pairs)
        and torch.equal(one.known_BLC, other.known_BLC)
        and torch.equal(one.guidance_B, other.guidance_B)
        and torch.equal(one.true_cfg_B, other.true_cfg_B)
    )


@pytest.mark.parametrize("true_cfg", [1.0, 4.0])
def test_made_kept_and_read_conditions_are_the_editor_s_own(folder: str, tmp_path: Path, true_cfg: float) -> None:
    editor, own = loaded(folder, true_cfg=true_cfg), triplet(0)
    image, mask = (tensor[None] for tensor in triplet_tensors(own))
    expected = editor.encode(image, mask, [own.prompt])
    assert same(condition(Encoder(editor), own), expected)
    encoder = Encoder(editor, Cache(tmp_path))
    editor.asked.clear()
    assert same(condition(encoder, own), expected) and same(condition(encoder, own), expected)
    assert editor.asked == Counter({own.prompt: 1, "picture": 1} | ({"nsfw": 1} if true_cfg > 1 else {}))
    editor.asked.clear()
    assert same(condition(Encoder(editor, Cache(tmp_path)), own), expected)
    assert not editor.asked


def test_bfloat16_is_read_as_it_was_made(folder: str, tmp_path: Path) -> None:
    editor = load_flux_fill(folder, dtype=torch.bfloat16)
    made = condition(Encoder(editor, Cache(tmp_path)), triplet(0))
    assert made.known_BLC.dtype == made.text.tokens_BTD.dtype == torch.bfloat16
    assert same(condition(Encoder(editor, Cache(tmp_path)), triplet(0)), made)


def test_a_batch_is_its_samples_whatever_its_layout(folder: str) -> None:
    editor, own = loaded(folder, true_cfg=4.0), [triplet(index) for index in range(3)]
    drawn = replace(part(*own), reference_keys=[(0, "t", n) for n in range(3)], abreast=[(0, 1, 9)], weight=0.0)
    batch = Encoder(editor).batch(drawn)
    alone = [condition(Encoder(editor), each) for each in reversed(own)]
    assert same(batch.condition, FillCondition.concat(alone[::-1]))
    assert batch.prompts == [each.prompt for each in own] and batch.task is Task.FILL
    assert (batch.keys, batch.reference_keys) == (drawn.keys, drawn.reference_keys)
    assert (batch.abreast, batch.weight) == ([(0, 1, 9)], 0.0)
    for place, each in enumerate(own):
        image, mask = triplet_tensors(each)
        assert torch.equal(batch.image_B3HW[place], image) and torch.equal(batch.mask_B1HW[place], mask)


def test_triplets_that_share_a_prompt_or_an_id_are_told_apart(folder: str, tmp_path: Path) -> None:
    editor = loaded(folder)
    one, other = triplet(0), triplet(4, name="t0")
    assert one.prompt == other.prompt and one.id == other.id
    masked = replace(one, mask=other.mask)
    encoder = Encoder(editor, Cache(tmp_path))
    different = [condition(encoder, each).known_BLC for each in (one, other, masked)]
    assert not any(torch.equal(different[place], different[place - 1]) for place in range(3))
    assert editor.asked == Counter({one.prompt: 1, "picture": 3})
    assert len(list(tmp_path.glob("conditions/*/*"))) == 4


def test_memory_is_bounded(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def pictures_encoded() -> int:
        editor = loaded(folder)
        encoder = Encoder(editor)
        for index in (0, 1, 0, 1):
            encoder.batch(part(triplet(index)))
        return editor.asked["picture"]

    assert pictures_encoded() == 2
    monkeypatch.setattr(conditions, "_MEMORY", 1)
    assert pictures_encoded() == 4


@pytest.mark.parametrize(
    ("size", "pixels", "expected"),
    [
        ((32, 24), None, (24, 32)),
        ((32, 24), 32 * 24, (24, 32)),
        ((64, 64), 32 * 32, (32, 32)),
        ((96, 48), 32 * 64, (32, 64)),  # 1.5 times too long
        ((30, 45), 10**6, (48, 32)),  # small enough, but no multiples of 8
        ((128, 8), 16 * 16, (8, 64)),  # never less than one multiple
    ],
)
def test_sizes_are_fitted_without_encoding(
    folder: str, size: tuple[int, int], pixels: int | None, expected: tuple[int, int]
) -> None:
    editor = loaded(folder)
    encoder, own = Encoder(editor, pixels=pixels), triplet(0, size=size)
    assert encoder.size_of(own) == torch.Size(expected)
    assert not editor.asked
    batch = encoder.batch(part(own))
    assert batch.image_B3HW.shape[2:] == batch.mask_B1HW.shape[2:] == torch.Size(expected)
    assert (batch.condition.height, batch.condition.width) == expected


def test_a_shrunk_picture_is_averaged_and_its_mask_covers_all_that_was_masked(folder: str) -> None:
    picture = noise(64, 64)
    mask = hole((64, 64), (10, 10, 13, 12))
    mask.putpixel((40, 40), 127)  # softer than the threshold: not masked
    own = replace(triplet(0), image=encode_png(picture), mask=encode_png(mask))
    batch = Encoder(loaded(folder), pixels=32 * 32).batch(part(own))
    levels = numpy.asarray(picture, dtype=float).reshape(32, 2, 32, 2, 3).mean((1, 3))
    found = (batch.image_B3HW[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert abs(found - levels).max() <= 1  # Pillow rounds twice
    assert batch.mask_B1HW[0, 0].nonzero().tolist() == [[5, 5], [5, 6]]


def test_a_size_that_the_editor_does_not_take_is_an_error_without_pixels(folder: str) -> None:
    with pytest.raises(ValueError, match="image of 45x30, expected multiples of 8"):
        Encoder(loaded(folder)).batch(part(triplet(0, size=(30, 45))))


class Pair(Mesh):
    """One of two processes; `meanwhile` is what the other does until both have met."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def wait(self) -> None:
        self.meanwhile()


def pair(meanwhile: Callable[[], object]) -> tuple[Pair, Pair]:
    first, second = Pair(rank=0, size=2), Pair(rank=1, size=2)
    object.__setattr__(first, "meanwhile", meanwhile)
    return first, second


@pytest.mark.parametrize("shared", [True, False])
def test_processes_encode_their_shares_and_on_disks_of_their_own_all(folder: str, tmp_path: Path, shared: bool) -> None:
    triplets, told = [triplet(index) for index in range(3)], []
    editors = loaded(folder), loaded(folder)
    caches = Cache(tmp_path / "0"), Cache(tmp_path / ("0" if shared else "1"))
    encoders = [Encoder(editor, cache) for editor, cache in zip(editors, caches, strict=True)]
    first, second = pair(lambda: encoders[1].encode_all(triplets, second))
    encoders[0].encode_all(triplets, first, told.append)
    shares = Counter({PROMPTS[0]: 1, PROMPTS[2]: 1, "picture": 2}), Counter({PROMPTS[1]: 1, "picture": 1})
    whole = shares[0] + shares[1]
    assert tuple(editor.asked for editor in editors) == (shares if shared else (whole, whole))
    assert told == [2, 1]
    expected = condition(Encoder(loaded(folder)), *triplets)
    for cache, editor in zip(caches, editors, strict=True):
        assert same(
            condition(Encoder(editor, cache, identity=encoding_fingerprint_of(loaded(folder))), *triplets), expected
        )


def test_freed_text_encoders_are_not_needed_again(folder: str, tmp_path: Path) -> None:
    editor, triplets = loaded(folder, true_cfg=4.0), [triplet(index) for index in range(2)]
    encoder = Encoder(editor, Cache(tmp_path))
    encoder.encode_all(triplets, ALONE)
    with pytest.raises(ValueError, match="the text encoders were freed"):
        _ = editor.text_encoder_2
    assert same(condition(encoder, *triplets), condition(Encoder(loaded(folder, true_cfg=4.0)), *triplets))
    with pytest.raises(ValueError, match="does not have the encoded prompt 'a sign' any more"):
        encoder.batch(part(triplet(2)))


def test_lost_latents_are_made_again_lost_texts_by_the_next_run(
    folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, editor = triplet(0), loaded(folder)
    expected = condition(Encoder(editor), own)

    def run() -> Encoder:
        editor = loaded(folder)
        encoder = Encoder(editor, Cache(tmp_path))
        encoder.encode_all([own], ALONE)
        encoder._memory = conditions._Memory(1)  # as if many others had been drawn since
        return encoder

    encoder = run()
    files = sorted(tmp_path.glob("conditions/*/*"), key=lambda path: path.stat().st_size)
    text, known = files
    assert known.stat().st_size > expected.known_BLC.nbytes > text.stat().st_size
    known.write_bytes(known.read_bytes()[:-1])
    assert same(condition(encoder, own), expected)
    assert f"{known} is corrupt" in caplog.text
    text.write_bytes(bytes(text.stat().st_size))
    with pytest.raises(ValueError, match=r"'a red star' any more.*run the same command again"):
        encoder.batch(part(own))
    assert f"{text} is corrupt" in caplog.text
    encoder = run()
    assert same(condition(encoder, own), expected)


def test_the_key_is_what_decides_the_encoding(folder: str, tmp_path: Path) -> None:
    editor = loaded(folder)
    before = encoding_fingerprint_of(editor)
    assert before == encoding_fingerprint_of(loaded(folder))
    with torch.no_grad():
        next(iter(editor.transformer.parameters())).add_(1)
        editor.contract = replace(editor.contract, guidance=1.0, steps=9)
        assert encoding_fingerprint_of(editor) == before
        seen = {before}
        for module in (editor.vae, editor.text_encoder, editor.text_encoder_2):
            next(iter(module.parameters())).view(-1)[0].add_(1)
            seen.add(encoding_fingerprint_of(editor))
        editor.contract = replace(TINY_CONTRACT, max_sequence_length=7)
        seen.add(encoding_fingerprint_of(editor))
    assert len(seen) == 5
    cache, own = Cache(tmp_path), triplet(0, size=(64, 64))
    for encoder in (
        Encoder(loaded(folder), cache),
        Encoder(loaded(folder), cache, identity="another"),
        Encoder(load_flux_fill(folder, dtype=torch.bfloat16), cache, identity="another"),
    ):
        before_ = len(list(tmp_path.glob("conditions/*/*")))
        encoder.batch(part(own))
        assert len(list(tmp_path.glob("conditions/*/*"))) == before_ + 2
    Encoder(loaded(folder), cache, pixels=32 * 32).batch(part(own))
    assert len(list(tmp_path.glob("conditions/*/*"))) == 7  # the same text
