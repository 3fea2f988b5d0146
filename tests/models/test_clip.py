from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from onereward.models.clip import load_clip

SIDE = 16
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": SIDE,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The vision tower alone, and a whole CLIP; the first with CLIP's preprocessor file."""
    paths = {name: tmp_path_factory.mktemp(name) for name in ("vision", "whole")}
    text = VISION | {"vocab_size": 10, "max_position_embeddings": 4}
    text = {name: value for name, value in text.items() if name not in ("image_size", "patch_size")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=6, **VISION)).save_pretrained(paths["vision"])
        CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=6)).save_pretrained(paths["whole"])
    processor().save_pretrained(paths["vision"])
    return paths


def processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


def picture(width: int, height: int) -> Image.Image:
    random = numpy.random.default_rng(width)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=numpy.uint8))


PICTURES = [picture(16, 16), picture(40, 23), picture(21, 64)]


def test_pixels_equal_the_stock_processor_s(folders: dict[str, Path]) -> None:
    clip = load_clip(str(folders["vision"]))
    stock = processor()(PICTURES, return_tensors="pt")["pixel_values"]
    ours = torch.stack([clip.pixels(image) for image in PICTURES])
    assert torch.allclose(ours, stock, atol=1e-5)


@pytest.mark.parametrize("name", ["vision", "whole"])
def test_embeddings_equal_the_stock_model_s(folders: dict[str, Path], name: str) -> None:
    stock = {"vision": CLIPVisionModelWithProjection, "whole": CLIPModel}[name].from_pretrained(folders[name])
    pixels = processor()(PICTURES, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = (
            stock(pixel_values=pixels).image_embeds
            if name == "vision"
            else stock.visual_projection(stock.vision_model(pixel_values=pixels).pooler_output)
        )
    embedded = load_clip(str(folders[name])).embed(PICTURES)
    assert embedded.dtype == numpy.float32 and embedded.shape == (3, 6)
    assert numpy.allclose(embedded, torch.nn.functional.normalize(expected, dim=-1).numpy(), atol=1e-5)
    assert numpy.allclose((embedded**2).sum(1), 1, atol=1e-5)


def test_no_picture_gives_no_row(folders: dict[str, Path]) -> None:
    assert load_clip(str(folders["vision"])).embed([]).shape == (0, 6)


def test_a_place_without_a_clip_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no CLIP at .*gone.*expected 'toy', a folder"):
        load_clip(str(tmp_path / "gone"))
