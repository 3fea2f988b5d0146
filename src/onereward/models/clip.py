"""CLIP image embeddings, with CLIP's preprocessing done here: transformers' own processors need torchvision or more.

Shape legend: N images, D embedding width.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, CLIPModel, CLIPVisionModelWithProjection
from transformers.utils import cached_file

from onereward.models.names import resolve
from onereward.models.quiet import quietly

_BATCH = 32
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipEmbedder:
    """CLIP's image tower: pictures in, unit vectors out."""

    def __init__(self, model: CLIPModel | CLIPVisionModelWithProjection, mean: Sequence[float], std: Sequence[float]):
        self.vision: nn.Module = model.vision_model.eval().requires_grad_(False)
        self.projection: nn.Module = model.visual_projection.requires_grad_(False)
        self.side: int = getattr(model.config, "vision_config", model.config).image_size
        self.mean, self.std = tuple(mean), tuple(std)

    @torch.no_grad()
    def embed(self, images: Sequence[Image.Image]) -> NDArray[numpy.float32]:
        """Embeddings of length 1, `array_ND` float32: their products are cosines."""
        batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        embedded = [self._project(torch.stack([self.pixels(image) for image in batch])) for batch in batches]
        width: int = next(self.projection.parameters()).shape[0]
        return torch.cat([torch.zeros(0, width), *embedded]).numpy()

    def pixels(self, image: Image.Image) -> Tensor:
        """The short side to the model's size (bicubic), the middle cut out, CLIP's mean and deviation: pixels_3SS."""
        rgb, side = image.convert("RGB"), self.side
        short = min(rgb.size)
        width, height = (int(side * length / short) for length in rgb.size)
        resized = rgb.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - side) // 2, (height - side) // 2
        cropped = numpy.asarray(resized.crop((left, top, left + side, top + side)), dtype=numpy.float32)
        normalised = (torch.from_numpy(cropped / 255) - torch.tensor(self.mean)) / torch.tensor(self.std)
        return normalised.permute(2, 0, 1)

    def _project(self, pixels_N3SS: Tensor) -> Tensor:
        parameter = next(self.projection.parameters())
        pooled = self.vision(pixel_values=pixels_N3SS.to(parameter)).pooler_output
        return nn.functional.normalize(self.projection(pooled).float(), dim=-1).cpu()


def load_clip(name_or_path: str, *, device: torch.device | str = "cpu") -> ClipEmbedder:
    """The embedder behind `toy`, a folder or a Hub repository id of a CLIPModel or CLIPVisionModelWithProjection.

    Raises ValueError if no CLIP lies there.
    """
    source = resolve(name_or_path, "clip")
    try:
        kind = AutoConfig.from_pretrained(source).model_type
        whole = kind == "clip"
        with quietly():
            model = (CLIPModel if whole else CLIPVisionModelWithProjection).from_pretrained(source).to(device)
        rules_file = cached_file(source, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no CLIP at {name_or_path!r}: {str(error).splitlines()[0]}; expected 'toy', a folder of a CLIPModel or "
            "CLIPVisionModelWithProjection, or a Hub repository id such as openai/clip-vit-large-patch14"
        ) from error
    rules = json.loads(Path(rules_file).read_text(encoding="utf-8")) if rules_file else {}
    return ClipEmbedder(model, rules.get("image_mean", _MEAN), rules.get("image_std", _STD))
