"""The model card beside an export: what it is, how to load it, what it expects, how it was trained, how good it is."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from onereward import __version__
from onereward.export.forms import CARD_FILE, Form, weights_of
from onereward.metrics.gsb import GoodSameBad, ScoreRow
from onereward.models.contract import Contract
from onereward.models.load import FLUX_FILL

_BASE = "base"
_RUN_FILE = "run.json"

_FLUX_LICENCE = {
    "license": "other",
    "license_name": "flux-1-dev-non-commercial-license",
    "license_link": f"https://huggingface.co/{FLUX_FILL}/blob/main/LICENSE.md",
}
_LICENCES = {
    FLUX_FILL: _FLUX_LICENCE,
    "bytedance-research/OneReward": {"license": "cc-by-nc-4.0"},
    "toy": {"license": "apache-2.0"},
}
"""Licence fields of a model card by the name of a base; another base's are read from its own card."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The run that made the weights, as `run.json` beside them tells it."""

    steps: int
    config: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """An editor's rows in a `report.json`."""

    editor: str
    gsb: Sequence[GoodSameBad]
    scores: Sequence[ScoreRow]


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card tells.

    `start` is the editor from which training began, and on which a LoRA is loaded; None if nobody trained anything.
    `base` lends a lone transformer its other parts. `lora` was merged, or is what is exported; `kept` is the share of
    a full fine-tune's squared change that an extracted LoRA has.
    """

    output: Path
    form: Form
    editor: str
    contract: Contract
    start: str | None = None
    base: str | None = None
    lora: str | None = None
    kept: float | None = None
    training: Training | None = None
    figures: Figures | None = None


def read_training(source: str) -> Training | None:
    """The run whose final model lies in `source` (a model's folder or file), or None if that is told nowhere."""
    path = Path(source)
    file = (path.parent if path.is_file() else path) / _RUN_FILE
    if not file.exists():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    return Training(steps=content["steps"], config=content["config"])


def trained_from(source: str) -> str | None:
    """The editor from which training began, as the run says, or None."""
    training = read_training(source)
    return None if training is None else training.config.get("editor")


def read_figures(file: Path, editor: str | None) -> Figures:
    """The rows of `editor` in a report; without a name, of the only editor there. ValueError if that is not clear."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        gsb = [GoodSameBad(**row) for row in content["gsb"]]
        scores = [ScoreRow(**row) for row in content["scores"]]
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is no report.json of `onereward report`: {error}") from error
    there = dict.fromkeys([row.editor for row in gsb] + [row.editor for row in scores if row.editor != _BASE])
    wanted = [name for name in there if editor in (None, name)]
    if len(wanted) != 1:
        raise ValueError(f"{file} has figures of {', '.join(there) or 'no editor'}: say which one (--report-name)")
    return Figures(
        editor=wanted[0],
        gsb=[row for row in gsb if row.editor == wanted[0]],
        scores=[row for row in scores if row.editor == wanted[0]],
    )


def card_text(facts: CardFacts) -> str:
    """The whole card in Markdown, with the Hub's metadata on top."""
    sections = [
        _what(facts),
        _how_to_load(facts),
        _expects(facts.contract),
        *([_trained(facts.training)] if facts.training else []),
        *([_measured(facts.figures)] if facts.figures else []),
        _licence(facts),
    ]
    body = "\n\n".join(sections)
    return str(ModelCard(f"---\n{_metadata(facts).to_yaml()}\n---\n\n{body}\n"))


def origin_of(name: str) -> str:
    """The first model of the chain that ends in `name`, as far as runs on this machine tell."""
    seen = {name}
    while (before := trained_from(name)) is not None and before not in seen:
        seen.add(before)
        name = before
    return name


def _metadata(facts: CardFacts) -> ModelCardData:
    origin = origin_of(_below(facts))
    fields: dict[str, Any] = dict(_licence_fields(origin))
    if _is_on_hub(origin):
        fields["base_model"] = origin.partition(":")[0]
        relation = _relation(facts)
        if relation is not None:
            fields["base_model_relation"] = relation
    tags = ["flux", "inpainting", "outpainting", "object-removal", "onereward"]
    if facts.form.is_lora:
        tags.append("lora")
    return ModelCardData(library_name="diffusers", pipeline_tag="image-to-image", tags=tags, **fields)


def _relation(facts: CardFacts) -> str | None:
    """The Hub's word for how this came from its base; None for the base itself in another form."""
    if facts.form.is_lora:
        return "adapter"
    if facts.lora is not None:
        return "merge"
    return "finetune" if facts.start is not None else None


def _licence_fields(origin: str) -> Mapping[str, str]:
    """The base's licence: known, or as its own card in a local folder says; empty if nobody knows."""
    known = _LICENCES.get(origin.partition(":")[0])
    card = Path(origin) / CARD_FILE
    if known is not None or not card.exists():
        return known or {}
    data = ModelCard.load(card).data.to_dict()
    return {key: data[key] for key in ("license", "license_name", "license_link") if key in data}


def _is_on_hub(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+(:.+)?", name) is not None and not Path(name).exists()


def _what(facts: CardFacts) -> str:
    forms = {
        Form.FOLDER: "a whole pipeline in diffusers' format",
        Form.LORA: "a LoRA under diffusers' names",
        Form.COMFYUI_LORA: "a LoRA under the original FLUX names, for ComfyUI",
        Form.SINGLE_FILE: "the transformer in one file under the original FLUX names",
    }
    lines = [f"Mask-guided image editor (fill, extend, remove, write text): {forms[facts.form]}."]
    if facts.start is not None:
        lines.append(f"Trained from `{facts.start}`.")
    if facts.lora is not None:
        lines.append(f"{'Written from' if facts.form.is_lora else 'Merged with'} the LoRA `{facts.lora}`.")
    if facts.kept is not None:
        lines.append(
            f"Taken from a full fine-tune by singular value decomposition: it keeps {100 * facts.kept:.1f} % of the "
            "squared change of the linear weights, and every changed bias and normalisation."
        )
    lines.append(f"Written by `onereward export` {__version__}.")
    return f"# {facts.output.name}\n\n" + "\n".join(lines)


def _how_to_load(facts: CardFacts) -> str:
    parts = ["## How to load it"]
    if facts.form is not Form.COMFYUI_LORA:
        parts.append(_code([*_diffusers(facts), *_call(facts.contract)]))
        if facts.contract.true_cfg > 1:
            parts.append(
                f"Diffusers' own pipeline has no true CFG, and this editor expects {facts.contract.true_cfg:g} with "
                f'the negative prompt "{facts.contract.negative_prompt}".'
            )
    parts.append(_code(_onereward(facts)))
    if facts.form in (Form.COMFYUI_LORA, Form.SINGLE_FILE):
        parts.append(_comfyui(facts))
    return "\n\n".join(parts)


def _diffusers(facts: CardFacts) -> list[str]:
    """Lines of Python that make `pipeline`."""
    name, (before, _, subfolder) = facts.output.name, _below(facts).partition(":")
    transformer = None
    if facts.form is Form.SINGLE_FILE:
        transformer = f'from_single_file("{name}/{weights_of(facts.output, facts.form).name}", config="{name}"'
    elif facts.form is Form.LORA and subfolder:
        transformer = f'from_pretrained("{before}", subfolder="{subfolder}"'
    source = name if facts.form is Form.FOLDER else _pipeline_below(facts)
    source = "onereward/weights/toy-editor" if source == "toy" else source  # where the package is installed
    classes = "FluxFillPipeline, FluxTransformer2DModel" if transformer else "FluxFillPipeline"
    lines = ["import torch", f"from diffusers import {classes}", ""]
    if transformer:
        lines.append(f"transformer = FluxTransformer2DModel.{transformer}, dtype=torch.bfloat16)")
    given = "transformer=transformer, " if transformer else ""
    lines.append(f'pipeline = FluxFillPipeline.from_pretrained("{source}", {given}dtype=torch.bfloat16).to("cuda")')
    if facts.form is Form.LORA:
        lines.append(f'pipeline.load_lora_weights("{name}")')
    return lines


def _call(contract: Contract) -> list[str]:
    return [
        "edited = pipeline(",
        '    prompt="a red star", image=image, mask_image=mask, height=height, width=width,',
        f"    guidance_scale={contract.guidance:g}, num_inference_steps={contract.steps}, "
        f"max_sequence_length={contract.max_sequence_length},",
        ").images[0]",
    ]


def _onereward(facts: CardFacts) -> list[str]:
    """Lines of Python that make `edited`."""
    name = facts.output.name
    base = f', base="{facts.base}"' if facts.base else ""
    if facts.form is Form.FOLDER:
        given = f'"{name}"'
    elif facts.form is Form.SINGLE_FILE:
        given = f'"{name}/{weights_of(facts.output, facts.form).name}", base="{_pipeline_below(facts)}"'
    else:
        given = f'"{_below(facts)}"{base}, lora="{name}"'
    return [
        "import onereward",
        "",
        f"editor = onereward.load_editor({given})",
        'edited = editor.edit(image, mask, "a red star", task="fill", seed=1)',
    ]


def _comfyui(facts: CardFacts) -> str:
    folder = "diffusion_models" if facts.form is Form.SINGLE_FILE else "loras"
    use = "load it in place of FLUX.1 Fill" if facts.form is Form.SINGLE_FILE else "load it on FLUX.1 Fill"
    file, guidance, cfg = weights_of(facts.output, facts.form).name, facts.contract.guidance, facts.contract.true_cfg
    return (
        f"In ComfyUI: put `{file}` into `ComfyUI/models/{folder}/` and {use}, with a guidance of {guidance:g} (node "
        f"FluxGuidance) and a CFG of {cfg:g} in the sampler."
    )


def _below(facts: CardFacts) -> str:
    """The editor on which a LoRA is loaded."""
    return facts.start or facts.editor


def _pipeline_below(facts: CardFacts) -> str:
    """The pipeline that lends a lone transformer its other parts."""
    before, _, subfolder = _below(facts).partition(":")
    return facts.base or (FLUX_FILL if subfolder else before)


def _expects(contract: Contract) -> str:
    rows = [(name.replace("_", " "), _shown(value)) for name, value in asdict(contract).items()]
    return f"## What it expects\n\nThe same is in `onereward.json`.\n\n{_table(('setting', 'value'), rows)}"


def _trained(training: Training) -> str:
    rows = [("steps done", str(training.steps))]
    rows += [(name.replace("_", " "), _shown(value)) for name, value in training.config.items()]
    return f"## How it was trained\n\n{_table(('setting', 'value'), rows)}"


def _measured(figures: Figures) -> str:
    gsb = [
        (
            row.task,
            row.dimension,
            str(row.n),
            f"{row.good} / {row.same} / {row.bad}",
            f"{row.net:+.3f} ({row.low:+.3f} to {row.high:+.3f})",
        )
        for row in figures.gsb
    ]
    scores = [
        (
            row.task,
            row.dimension,
            row.scorer,
            str(row.n),
            f"{row.mean:.3f} ({row.low:.3f} to {row.high:.3f})",
            f"{row.difference:+.3f} ({row.difference_low:+.3f} to {row.difference_high:+.3f})",
        )
        for row in figures.scores
    ]
    net, mean = "net (95 % interval)", "mean (95 % interval)"
    return "\n\n".join(
        [
            "## Figures",
            f"`{figures.editor}` of the report, against the base on the same held-out triplets; n counts triplets.",
            _table(("task", "dimension", "n", "good / same / bad", net), gsb),
            _table(("task", "dimension", "scorer", "n", mean, "difference (95 % interval)"), scores),
        ]
    )


def _licence(facts: CardFacts) -> str:
    origin = origin_of(_below(facts))
    known = _licence_fields(origin)
    if not known:
        return f"## Licence\n\nThat of `{origin}`, from which the weights come: look there before you pass them on."
    name = known.get("license_name", known.get("license", ""))
    link = f" ({known['license_link']})" if "license_link" in known else ""
    return f"## Licence\n\n{name}{link}, as that of `{origin}`, from which the weights come."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _shown(value: Any) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`" if value not in ("", None) else "–"


def _code(lines: Sequence[str]) -> str:
    return "\n".join(["```python", *lines, "```"])
