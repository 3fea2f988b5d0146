from dataclasses import replace
from pathlib import Path

import torch

from onereward.models.clip import load_clip
from onereward.models.fingerprint import fingerprint_of
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder


def test_it_is_the_content_not_the_place(tmp_path: Path) -> None:
    folders = [tiny_flux_fill_folder(tmp_path / name) for name in ("one", "twin")]
    one, twin = (fingerprint_of(load_flux_fill(str(folder))) for folder in folders)
    assert one == twin


def test_every_part_and_the_contract_count(tmp_path: Path) -> None:
    folder = str(tiny_flux_fill_folder(tmp_path / "editor"))
    before = fingerprint_of(load_flux_fill(folder))
    seen = {before}
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        editor = load_flux_fill(folder)
        with torch.no_grad():
            next(getattr(editor, part).parameters()).view(-1)[0] += 1
        seen.add(fingerprint_of(editor))
    editor = load_flux_fill(folder)
    editor.contract = replace(editor.contract, steps=9)
    seen.add(fingerprint_of(editor))
    editor = load_flux_fill(folder)
    editor.vae.register_to_config(scaling_factor=0.5)
    seen.add(fingerprint_of(editor))
    editor = load_flux_fill(folder)
    editor.shift = replace(editor.shift, max_mu=2.0)
    seen.add(fingerprint_of(editor))
    editor = load_flux_fill(folder)
    editor.tokenizer.add_tokens(["zebra"])
    seen.add(fingerprint_of(editor))
    assert len(seen) == 9


def test_a_judge_has_one_too(tmp_path: Path) -> None:
    folder = str(tiny_judge_folder(tmp_path))
    judge, fewer_pixels = load_qwen_vl(folder), load_qwen_vl(folder, max_pixels=1024)
    assert fingerprint_of(judge) == fingerprint_of(load_qwen_vl(folder)) != fingerprint_of(fewer_pixels)
    with torch.no_grad():
        next(judge.model.parameters()).view(-1)[0] += 1
    assert fingerprint_of(judge) != fingerprint_of(load_qwen_vl(folder))


def test_a_clip_has_one_too() -> None:
    clip = load_clip("toy")
    before = fingerprint_of(clip)
    assert before == fingerprint_of(load_clip("toy"))
    with torch.no_grad():
        next(clip.vision.parameters()).view(-1)[0] += 1
    assert fingerprint_of(clip) != before
