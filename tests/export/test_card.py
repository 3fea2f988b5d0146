"""The model card: metadata that the Hub reads, code, contract, training, figures, the base's licence."""

import ast
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from onereward.export.card import CardFacts, Training, card_text, origin_of, read_figures, read_training
from onereward.export.forms import Form
from onereward.metrics.gsb import GoodSameBad, ScoreRow
from onereward.models.contract import RELEASED, Contract
from onereward.models.load import FLUX_FILL

FACTS = CardFacts(
    output=Path("out/my-editor"), form=Form.FOLDER, editor="runs/rl/final", contract=Contract(), start=FLUX_FILL
)
NET = GoodSameBad(
    editor="algorithm-1",
    task="fill",
    dimension="structure",
    good=26,
    same=473,
    bad=1,
    net=0.05,
    low=-0.032,
    high=0.07,
    n=500,
    seed=0,
)
SCORE = ScoreRow(
    editor="algorithm-1",
    task="fill",
    dimension="structure",
    scorer="toy-oracle",
    n=500,
    mean=0.8621,
    low=0.8504,
    high=0.8732,
    difference=0.017,
    difference_low=0.013,
    difference_high=0.02,
    normalised=None,
)


def metadata(facts: CardFacts) -> dict[str, Any]:
    data: dict[str, Any] = ModelCard(card_text(facts)).data.to_dict()
    return data


def codes(facts: CardFacts) -> list[str]:
    found = re.findall(r"```python\n(.*?)\n```", card_text(facts), re.DOTALL)
    for code in found:
        ast.parse(code)
    return found


@pytest.mark.parametrize(
    ("changes", "relation"),
    [
        ({}, "finetune"),
        ({"form": Form.SINGLE_FILE}, "finetune"),
        ({"form": Form.LORA}, "adapter"),
        ({"form": Form.COMFYUI_LORA, "editor": FLUX_FILL, "lora": "my-lora"}, "adapter"),
        ({"editor": FLUX_FILL, "start": None, "lora": "my-lora"}, "merge"),
        ({"editor": FLUX_FILL, "start": None}, None),
    ],
)
def test_metadata_names_base_relation_and_licence(changes: dict[str, Any], relation: str | None) -> None:
    data = metadata(replace(FACTS, **changes))
    assert data["base_model"] == FLUX_FILL
    assert data.get("base_model_relation") == relation
    assert data["license"] == "other"
    assert data["license_name"] == "flux-1-dev-non-commercial-license"
    assert data["license_link"] == "https://huggingface.co/black-forest-labs/FLUX.1-Fill-dev/blob/main/LICENSE.md"
    assert data["library_name"] == "diffusers" and data["pipeline_tag"] == "image-to-image"
    assert {"flux", "inpainting", "onereward"} <= set(data["tags"])
    assert ("lora" in data["tags"]) == (relation == "adapter")


def test_the_base_is_the_first_of_the_chain_of_runs(tmp_path: Path) -> None:
    for name, editor in {"one": FLUX_FILL, "two": str(tmp_path / "one"), "loop": str(tmp_path / "loop")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"steps": 3, "config": {"editor": editor}}))
    assert origin_of(str(tmp_path / "two")) == FLUX_FILL
    assert origin_of(str(tmp_path / "loop")) == str(tmp_path / "loop")
    assert metadata(replace(FACTS, start=str(tmp_path / "two")))["base_model"] == FLUX_FILL
    assert read_training(str(tmp_path / "one")) == Training(steps=3, config={"editor": FLUX_FILL})
    assert read_training(str(tmp_path)) is None


def test_a_base_with_a_card_hands_its_licence_on_and_one_without_is_named(tmp_path: Path) -> None:
    facts = replace(FACTS, start=str(tmp_path))
    assert "license" not in metadata(facts) and "base_model" not in metadata(facts)
    assert f"That of `{tmp_path}`, from which the weights come: look there" in card_text(facts)
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags: [a]\n---\n")
    assert metadata(facts)["license"] == "mit"
    assert metadata(replace(FACTS, start="toy"))["license"] == "apache-2.0"
    released = metadata(replace(FACTS, start="bytedance-research/OneReward:flux.1-fill-dev-OneReward-transformer"))
    assert (released["base_model"], released["license"]) == ("bytedance-research/OneReward", "cc-by-nc-4.0")


def test_code_loads_what_lies_there() -> None:
    folder = codes(FACTS)
    assert 'FluxFillPipeline.from_pretrained("my-editor", dtype=torch.bfloat16)' in folder[0]
    assert "guidance_scale=30, num_inference_steps=50, max_sequence_length=512" in folder[0]
    assert 'load_editor("my-editor")' in folder[1]

    lora = codes(replace(FACTS, form=Form.LORA))
    assert f'from_pretrained("{FLUX_FILL}", dtype' in lora[0] and 'load_lora_weights("my-editor")' in lora[0]
    assert f'load_editor("{FLUX_FILL}", lora="my-editor")' in lora[1]

    lone = replace(FACTS, form=Form.LORA, editor="some/repo:part", start=None, base="other/base")
    assert 'FluxTransformer2DModel.from_pretrained("some/repo", subfolder="part"' in codes(lone)[0]
    assert 'FluxFillPipeline.from_pretrained("other/base", transformer=transformer' in codes(lone)[0]
    assert 'load_editor("some/repo:part", base="other/base", lora="my-editor")' in codes(lone)[1]

    single = replace(FACTS, form=Form.SINGLE_FILE)
    assert 'from_single_file("my-editor/my-editor.safetensors", config="my-editor"' in codes(single)[0]
    assert f'load_editor("my-editor/my-editor.safetensors", base="{FLUX_FILL}")' in codes(single)[1]
    assert "put `my-editor.safetensors` into `ComfyUI/models/diffusion_models/`" in card_text(single)

    [comfyui] = codes(replace(FACTS, form=Form.COMFYUI_LORA))
    assert comfyui.startswith("import onereward")
    text = card_text(replace(FACTS, form=Form.COMFYUI_LORA))
    assert "put `my-editor.safetensors` into `ComfyUI/models/loras/`" in text
    assert "guidance of 30 (node FluxGuidance) and a CFG of 1 in" in text


def test_the_contract_is_a_table_and_true_cfg_is_said_to_be_missing_in_diffusers() -> None:
    contract = RELEASED["bytedance-research/OneReward"]
    text = card_text(replace(FACTS, contract=contract))
    rows = dict(re.findall(r"^\| (.+?) \| `?(.*?)`? \|$", text, re.MULTILINE))
    assert {name.replace("_", " ") for name in asdict(contract)} <= set(rows)
    assert rows["true cfg"] == "4.0" and rows["negative prompt"] == "nsfw"
    assert 'has no true CFG, and this editor expects 4 with the negative prompt "nsfw"' in text
    assert "no true CFG" not in card_text(FACTS)


def test_training_is_told_with_its_data() -> None:
    training = Training(steps=150, config={"learning_rate": 3e-5, "triplets": "pool|a", "drawn_from": "triplets 1f"})
    text = card_text(replace(FACTS, training=training))
    for row in ("| steps done | 150 |", "| learning rate | `3e-05` |", "| drawn from | `triplets 1f` |"):
        assert row in text
    assert r"| triplets | `pool\|a` |" in text
    assert "How it was trained" not in card_text(FACTS)


def report(folder: Path, *editors: str) -> Path:
    content = {
        "gsb": [asdict(replace(NET, editor=editor)) for editor in editors],
        "scores": [asdict(replace(SCORE, editor=editor)) for editor in ("base", *editors)],
        "judge": [],
    }
    file = folder / "report.json"
    file.write_text(json.dumps(content))
    return file


def test_figures_have_n_and_intervals(tmp_path: Path) -> None:
    figures = read_figures(report(tmp_path, "algorithm-1"), None)
    text = card_text(replace(FACTS, figures=figures))
    assert "| fill | structure | 500 | 26 / 473 / 1 | +0.050 (-0.032 to +0.070) |" in text
    assert "| fill | structure | toy-oracle | 500 | 0.862 (0.850 to 0.873) | +0.017 (+0.013 to +0.020) |" in text
    assert text.count("| toy-oracle |") == 1
    assert "## Figures" not in card_text(FACTS)


def test_the_editor_of_the_figures_is_the_only_one_or_named(tmp_path: Path) -> None:
    file = report(tmp_path, "algorithm-1", "algorithm-2")
    assert [row.editor for row in read_figures(file, "algorithm-2").scores] == ["algorithm-2"]
    for name in (None, "algorithm-3"):
        with pytest.raises(ValueError, match="has figures of algorithm-1, algorithm-2: say which one"):
            read_figures(file, name)
    for wrong in ("{}", "no json", '{"gsb": [{"a": 1}], "scores": []}', "[]"):
        file.write_text(wrong)
        with pytest.raises(ValueError, match=r"report\.json is no report"):
            read_figures(file, None)


def test_what_was_done_is_told() -> None:
    assert "Merged with the LoRA `my-lora`." in card_text(replace(FACTS, lora="my-lora"))
    assert "Written from the LoRA `my-lora`." in card_text(replace(FACTS, lora="my-lora", form=Form.LORA))
    kept = card_text(replace(FACTS, form=Form.LORA, kept=0.93456))
    assert "keeps 93.5 % of the squared change of the linear weights" in kept
    assert f"Trained from `{FLUX_FILL}`." in kept
