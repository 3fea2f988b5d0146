"""The stage `export`: an editor or a LoRA in, one folder out that diffusers, ComfyUI or the Hub takes as it is."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from onereward.export.card import CardFacts, Figures, card_text, read_figures, read_training, trained_from
from onereward.export.forms import Form, require_free, weights_of, write_folder, write_lora, write_single_file
from onereward.models.contract import Contract
from onereward.models.device import default_device
from onereward.models.flux_fill import FluxFill
from onereward.models.load import load_contract, load_flux_fill
from onereward.models.lora import Extraction, extract_lora, read_lora
from onereward.runtime.track import track

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported, in which form, and what the card tells.

    `editor`, `base` and `lora` mean what they mean to `load_flux_fill`. Whole forms have the LoRA merged in; a LoRA
    form writes the LoRA itself, or, where there is none or `start` is given, takes one of rank `rank` from the
    difference between the editor and `start`, the editor that it was trained from (default: as its `run.json` says).
    `report` is a report.json, `report_name` the editor's name in it.
    """

    editor: str
    form: Form
    base: str | None = None
    lora: str | None = None
    start: str | None = None
    rank: int = 64
    dtype: torch.dtype = torch.float32
    report: Path | None = None
    report_name: str | None = None

    @property
    def extracts(self) -> bool:
        """Whether a LoRA is taken from a full fine-tune."""
        return self.form.is_lora and (self.lora is None or self.start is not None)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What there is to load, and the share of the squared change that a LoRA keeps if it was taken from a fine-tune."""

    weights: Path
    kept: float | None


def export(config: ExportConfig, output: Path) -> Exported:
    """Write one export into `output`, which appears only when it is whole.

    Raises FileExistsError if `output` holds something, ValueError for input that is missing or does not fit together;
    then nothing is written.
    """
    require_free(output)
    figures = read_figures(config.report, config.report_name) if config.report else None
    card = partial(_card, config, output, figures)
    if not config.form.is_lora:
        editor = _load(config)
        write = write_folder if config.form is Form.FOLDER else write_single_file
        write(output, editor, card(editor.contract, start=config.start or trained_from(config.editor)))
        return Exported(weights=weights_of(output, config.form), kept=None)
    if config.extracts:
        start = _start_of(config)
        contract, extraction = _extract(start, config)
        lora, kept = extraction.lora, extraction.energy
    else:
        start, kept = config.editor, None
        contract, lora = load_contract(start, base=config.base, lora=config.lora), read_lora(str(config.lora))
    write_lora(output, config.form, lora, contract, card(contract, start=start, kept=kept))
    return Exported(weights=weights_of(output, config.form), kept=kept)


def _load(config: ExportConfig) -> FluxFill:
    return load_flux_fill(config.editor, base=config.base, lora=config.lora, dtype=config.dtype)


def _start_of(config: ExportConfig) -> str:
    start = config.start or trained_from(config.editor)
    if start is None:
        raise ValueError(
            "a LoRA of a full fine-tune needs the editor from which it was trained, and no run.json in "
            f"{config.editor} says it: give --start (or a --lora to export that)"
        )
    return start


def _extract(start: str, config: ExportConfig) -> tuple[Contract, Extraction]:
    """The tuned editor's contract, and the LoRA that leads to it from `start`."""
    before, tuned = load_flux_fill(start, dtype=config.dtype).transformer, _load(config)
    modules = sum(isinstance(module, nn.Linear) for module in before.modules())
    with track(modules, "export") as advance:
        extraction = extract_lora(
            before, tuned.transformer, config.rank, device=default_device(), on_module=lambda: advance()
        )
    return tuned.contract, extraction


def _card(
    config: ExportConfig,
    output: Path,
    figures: Figures | None,
    contract: Contract,
    *,
    start: str | None,
    kept: float | None = None,
) -> str:
    return card_text(
        CardFacts(
            output=output,
            form=config.form,
            editor=config.editor,
            contract=contract,
            start=start,
            base=config.base,
            lora=config.lora,
            kept=kept,
            training=read_training(config.lora or config.editor) or read_training(config.editor),
            figures=figures,
        )
    )
