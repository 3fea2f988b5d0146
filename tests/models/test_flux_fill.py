from pathlib import Path

import numpy
import pytest
import torch
from diffusers import FluxFillPipeline
from PIL import Image
from torch import Tensor

from onereward.flow.sample import denoise
from onereward.models.base import Editor
from onereward.models.contract import Contract
from onereward.models.flux_fill import FillCondition, FluxFill
from onereward.models.load import load_flux_fill
from onereward.store.images import image_to_tensor, mask_to_tensor, tensor_to_image
from tests.tiny import LATENT_CHANNELS, SEQUENCE_LENGTH, tiny_flux_fill_folder

PROMPTS = ["a red star", 'a sign that says "CAB"']


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("editor"))


@pytest.fixture(scope="module")
def editor(folder: Path) -> FluxFill:
    return load_flux_fill(str(folder))


def scenes(width: int, height: int, count: int = 2) -> tuple[list[Image.Image], list[Image.Image]]:
    """Noise pictures, and masks with a hole that lies elsewhere in each."""
    random = numpy.random.default_rng(width * height)
    images = [Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=numpy.uint8)) for _ in range(count)]
    masks = [Image.new("L", (width, height)) for _ in range(count)]
    for index, mask in enumerate(masks):
        mask.paste(255, (5 + index, 3, 20 + 2 * index, 19))
    return images, masks


def tensors(images: list[Image.Image], masks: list[Image.Image]) -> tuple[Tensor, Tensor]:
    return torch.stack([image_to_tensor(i) for i in images]), torch.stack([mask_to_tensor(m) for m in masks])


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.fixture
def condition(editor: FluxFill) -> FillCondition:
    return editor.encode(*tensors(*scenes(32, 32)), PROMPTS)


@pytest.mark.parametrize(
    ("width", "height", "steps", "guidance"), [(32, 32, 4, 30.0), (48, 32, 3, 1.0), (32, 72, 1, 3.5)]
)
def test_repaint_equals_the_stock_pipeline_seed_for_seed(
    folder: Path, editor: FluxFill, width: int, height: int, steps: int, guidance: float
) -> None:
    images, masks = scenes(width, height)
    stock = FluxFillPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        prompt=PROMPTS,
        image=images,
        mask_image=masks,
        height=height,
        width=width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=SEQUENCE_LENGTH,
        generator=generators(3, 4),
    ).images
    ours = editor.repaint(*tensors(images, masks), PROMPTS, generators(3, 4), steps=steps, guidance=guidance)
    for stock_image, image in zip(expected, ours, strict=True):
        assert numpy.array_equal(numpy.asarray(stock_image), numpy.asarray(tensor_to_image(image)))
    other = editor.repaint(*tensors(images, masks), PROMPTS, generators(3, 5), steps=steps, guidance=guidance)
    assert torch.equal(ours[0], other[0]) and not torch.equal(ours[1], other[1])


def test_true_cfg_equals_two_plain_passes_for_any_batch(editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32))
    plain = editor.encode(image, mask, PROMPTS, generators=generators(1, 2))
    refused = editor.encode(image, mask, ["nsfw", "nsfw"], generators=generators(1, 2))
    guided = editor.encode(
        image, mask, PROMPTS, true_cfg=[4.0, 1.0], negative_prompt="nsfw", generators=generators(1, 2)
    )
    noise, t_B = editor.noise(plain, [(0,), (1,)]), torch.tensor([0.9, 0.4])
    positive, negative = editor.velocity(noise, t_B, plain), editor.velocity(noise, t_B, refused)
    velocity = editor.velocity(noise, t_B, guided)
    assert torch.allclose(velocity[0], negative[0] + 4 * (positive[0] - negative[0]), atol=1e-5)
    assert torch.allclose(velocity[1], positive[1], atol=1e-6)
    assert not torch.allclose(velocity[0], positive[0], atol=1e-3)


def test_a_string_negative_prompt_serves_a_whole_batch(editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32, count=3))
    prompts, options = [*PROMPTS, "remove"], {"steps": 2, "true_cfg": 4.0, "negative_prompt": "nsfw"}
    batch = editor.repaint(image, mask, prompts, generators(0, 1, 2), **options)
    for index in range(3):
        one = slice(index, index + 1)
        alone = editor.repaint(image[one], mask[one], prompts[one], generators(index), **options)
        assert torch.allclose(batch[one], alone, atol=1e-5)


def test_the_transformer_sees_latents_then_blanked_image_then_mask(condition: FillCondition) -> None:
    mask_BLC = condition.known_BLC[..., 4 * LATENT_CHANNELS :]
    # Token 0 covers pixels 0..7 of both axes; the first hole begins at x = 5, y = 3: 3 x 5 of its pixels are white.
    assert mask_BLC.shape == (2, 16, 64) and mask_BLC[0, 0].sum() == 15
    # Channel = (row in the VAE cell * 4 + column) * 4 + cell row * 2 + cell column: pixel (y 3, x 5) is cell (0, 1).
    assert mask_BLC[0, 0, (3 * 4 + 1) * 4 + 1] == 1 and mask_BLC[0, 0, (2 * 4 + 1) * 4 + 1] == 0


def test_pixels_under_the_mask_do_not_reach_the_condition(editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32))
    scribbled = torch.where(mask.bool(), torch.full_like(image, 0.7), image)
    assert torch.equal(editor.encode(image, mask, PROMPTS).known_BLC, editor.encode(scribbled, mask, PROMPTS).known_BLC)


def test_the_posterior_mode_needs_no_generator_and_differs_from_a_sample(editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32))
    mode = editor.encode(image, mask, PROMPTS).known_BLC
    assert torch.equal(mode, editor.encode(image, mask, PROMPTS).known_BLC)
    assert not torch.equal(mode, editor.encode(image, mask, PROMPTS, generators=generators(0, 1)).known_BLC)


def test_noise_depends_on_a_sample_s_key_alone(editor: FluxFill, condition: FillCondition) -> None:
    noise = editor.noise(condition, [("a", 1), ("b", 2)])
    swapped = editor.noise(condition, [("b", 2), ("a", 1)])
    assert torch.equal(noise, swapped.flip(0)) and not torch.equal(noise[0], noise[1])
    assert torch.equal(editor.noise(condition.select([0]), [("b", 2)])[0], noise[1])


def test_conditions_are_cached_singly_and_batched_later(editor: FluxFill, condition: FillCondition) -> None:
    singles = [condition.select([index]) for index in range(2)]
    joined = FillCondition.concat([singles[1], singles[0], singles[1]])
    noise = editor.noise(joined, [(0,), (1,), (2,)])
    t_B = torch.full((3,), 0.5)
    expected = editor.velocity(noise[:1], t_B[:1], singles[1])
    assert len(joined) == 3 and torch.allclose(editor.velocity(noise, t_B, joined)[:1], expected, atol=1e-6)
    with pytest.raises(ValueError, match="conditions differ"):
        FillCondition.concat([condition, editor.encode(*tensors(*scenes(48, 32)), PROMPTS)])


def test_gradient_reaches_the_transformer_and_the_latents_only(editor: FluxFill, condition: FillCondition) -> None:
    noise = editor.noise(condition, [(0,), (1,)]).requires_grad_()
    velocity = editor.velocity(noise, torch.tensor([0.5, 0.7]), condition)
    editor.decode(noise - 0.5 * velocity, condition).square().mean().backward()
    assert noise.grad is not None and noise.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in editor.transformer.parameters())
    frozen = (editor.vae, editor.text_encoder, editor.text_encoder_2)
    assert all(parameter.grad is None for part in frozen for parameter in part.parameters())
    editor.transformer.zero_grad(set_to_none=True)


def test_another_transformer_can_be_asked(editor: FluxFill, condition: FillCondition, tmp_path: Path) -> None:
    other = load_flux_fill(str(tiny_flux_fill_folder(tmp_path, seed=1)))
    noise, t_B = editor.noise(condition, [(0,), (1,)]), torch.tensor([1.0, 1.0])
    borrowed = editor.velocity(noise, t_B, condition, transformer=other.transformer)
    assert not torch.allclose(borrowed, editor.velocity(noise, t_B, condition), atol=1e-3)


def test_it_is_an_editor_for_the_algorithm(editor: FluxFill, condition: FillCondition) -> None:
    algorithm_view: Editor = editor
    times = algorithm_view.times(condition, 2)
    latents = denoise(
        lambda latents, t_B: algorithm_view.velocity(latents, t_B, condition),
        algorithm_view.noise(condition, [(0,), (1,)]),
        times,
    )
    assert len(times) == 3 and times[0] == 1 and times[-1] == 0
    assert algorithm_view.decode(latents, condition).shape == (2, 3, 32, 32)


def test_a_cut_prompt_is_said(editor: FluxFill, caplog: pytest.LogCaptureFixture) -> None:
    image, mask = tensors(*scenes(32, 32, count=1))
    editor.encode(image, mask, ["a red star " * 9])
    assert "cut after 12 tokens" in caplog.text


@pytest.mark.parametrize(
    ("height", "prompts", "options", "message"),
    [
        (32, ["a"], {}, "for 1 prompts"),
        (36, PROMPTS, {}, "multiples of 8"),
        (32, PROMPTS, {"guidance": [1.0]}, "got 1 values for 2 samples"),
    ],
)
def test_wrong_input_is_refused(
    editor: FluxFill, height: int, prompts: list[str], options: dict[str, list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        editor.encode(torch.zeros(2, 3, height, 32), torch.zeros(2, 1, height, 32), prompts, **options)


def test_another_schedule_is_refused(editor: FluxFill) -> None:
    scheduler = type(editor.scheduler)(use_dynamic_shifting=False)
    with pytest.raises(ValueError, match="expected FLUX's scheduler"):
        FluxFill(
            transformer=editor.transformer,
            vae=editor.vae,
            text_encoder=editor.text_encoder,
            tokenizer=editor.tokenizer,
            text_encoder_2=editor.text_encoder_2,
            tokenizer_2=editor.tokenizer_2,
            scheduler=scheduler,
            contract=Contract(),
        )
