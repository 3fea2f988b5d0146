import weakref
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from diffusers import FluxFillPipeline
from diffusers.pipelines.flux.pipeline_flux_fill import calculate_shift
from PIL import Image
from torch import Tensor

from onereward.flow.sample import denoise
from onereward.flow.schedule import shifted_times
from onereward.flow.shift import Shift
from onereward.models.base import Editor
from onereward.models.contract import Contract
from onereward.models.flux_fill import FillCondition, FluxFill, shift_of
from onereward.models.load import load_flux_fill, save_editor
from onereward.store.images import image_to_tensor, mask_to_tensor, tensor_to_image
from tests.tiny import LATENT_CHANNELS, SCALE_FACTOR, SEQUENCE_LENGTH, tiny_flux_fill_folder

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


def unit(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1], clamped, as the stock pipeline's `pt` output."""
    return (image / 2 + 0.5).clamp(0, 1)


def stock_pipeline(folder: Path) -> FluxFillPipeline:
    """As it comes, but for what picks other kernels and so other last bits: misaligned weights, and unfrozen ones."""
    pipeline = FluxFillPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        part.requires_grad_(False)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        for tensor in (*part.parameters(), *part.buffers()):
            tensor.data = tensor.data.clone()
    return pipeline


@pytest.mark.parametrize(
    ("width", "height", "steps", "guidance"),
    [(32, 32, 4, 30.0), (48, 32, 3, 1.0), (32, 72, 1, 3.5), (64, 64, 9, 10.0)],
)
def test_repaint_equals_the_stock_pipeline_seed_for_seed(
    folder: Path, editor: FluxFill, width: int, height: int, steps: int, guidance: float
) -> None:
    images, masks = scenes(width, height)
    stock = stock_pipeline(folder)
    settings = {"height": height, "width": width, "num_inference_steps": steps, "guidance_scale": guidance}
    settings |= {"prompt": PROMPTS, "max_sequence_length": SEQUENCE_LENGTH}
    pictures = stock(**settings, image=images, mask_image=masks, generator=generators(3, 4)).images
    image, mask = tensors(images, masks)
    # Tensors, since pixels that lie channels last, as from PIL, take other kernels of the VAE.
    bytes_B3HW = torch.stack([torch.tensor(numpy.asarray(one)).permute(2, 0, 1).contiguous() for one in images])
    settings |= {"image": bytes_B3HW / 255, "mask_image": mask, "output_type": "pt"}
    floats = stock(**settings, generator=generators(3, 4)).images
    ours = editor.repaint(image, mask, PROMPTS, generators(3, 4), steps=steps, guidance=guidance)
    assert torch.equal(unit(ours), floats)
    for picture, one in zip(pictures, ours, strict=True):
        assert numpy.array_equal(numpy.asarray(picture), numpy.asarray(tensor_to_image(one)))
    other = editor.repaint(image, mask, PROMPTS, generators(3, 5), steps=steps, guidance=guidance)
    assert torch.equal(ours[0], other[0]) and not torch.equal(ours[1], other[1])


@torch.no_grad()
def plain_true_cfg(
    folder: Path,
    image: Tensor,
    mask: Tensor,
    *,
    negative: str,
    true_cfg: float,
    guidance: float,
    steps: int,
    in_one_pass: bool,
) -> Tensor:
    """Denoising with true CFG written plainly around the stock pipeline's own pieces; image_B3HW in [0, 1]."""
    pipeline, batch, (height, width) = stock_pipeline(folder), len(image), image.shape[2:]
    text, pooled, text_ids = pipeline.encode_prompt(PROMPTS, None, max_sequence_length=SEQUENCE_LENGTH)
    no_text, no_pooled, _ = pipeline.encode_prompt([negative], None, max_sequence_length=SEQUENCE_LENGTH)
    no_text, no_pooled = no_text.repeat(batch, 1, 1), no_pooled.repeat(batch, 1)
    sigmas, tokens = numpy.linspace(1, 1 / steps, steps), height * width // (2 * SCALE_FACTOR) ** 2
    pipeline.scheduler.set_timesteps(sigmas=sigmas, mu=calculate_shift(tokens))
    times, made_by = pipeline.scheduler.timesteps, generators(3, 4)
    shape = (batch, LATENT_CHANNELS, height, width, torch.float32, torch.device("cpu"), made_by)
    latents, positions = pipeline.prepare_latents(image, times[:1].repeat(batch), *shape)
    hole, known = pipeline.prepare_mask_latents(
        mask, image * (1 - mask), batch, LATENT_CHANNELS, 1, height, width, torch.float32, torch.device("cpu"), made_by
    )

    def predict(latents: Tensor, time: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
        times_over = len(latents) // batch
        velocity: Tensor = pipeline.transformer(
            hidden_states=torch.cat([latents, torch.cat([known, hole], dim=2).repeat(times_over, 1, 1)], dim=2),
            timestep=time.expand(len(latents)) / 1000,
            guidance=torch.full([len(latents)], guidance),
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=text_ids,
            img_ids=positions,
        ).sample
        return velocity

    for time in times:
        if in_one_pass:
            both = torch.cat([latents] * 2), time, torch.cat([no_text, text]), torch.cat([no_pooled, pooled])
            refused, wanted = predict(*both).chunk(2)
        else:
            refused, wanted = predict(latents, time, no_text, no_pooled), predict(latents, time, text, pooled)
        velocity = refused + true_cfg * (wanted - refused)
        latents = pipeline.scheduler.step(velocity, time, latents).prev_sample
    latents = pipeline._unpack_latents(latents, height, width, SCALE_FACTOR)
    config = pipeline.vae.config
    return unit(pipeline.vae.decode(latents / config.scaling_factor + config.shift_factor).sample)


@pytest.mark.parametrize(
    ("width", "height", "steps", "true_cfg"), [(32, 32, 4, 4.0), (48, 32, 3, 1.5), (32, 72, 6, 7.0)]
)
def test_true_cfg_equals_a_plain_loop(
    folder: Path, editor: FluxFill, width: int, height: int, steps: int, true_cfg: float
) -> None:
    image, mask = tensors(*scenes(width, height))
    settings = {"steps": steps, "true_cfg": true_cfg, "guidance": 1.0}
    ours = editor.repaint(image, mask, PROMPTS, generators(3, 4), negative_prompt="nsfw", **settings)
    expected = plain_true_cfg(folder, image, mask, negative="nsfw", in_one_pass=True, **settings)
    two_passes = plain_true_cfg(folder, image, mask, negative="nsfw", in_one_pass=False, **settings)
    assert torch.equal(unit(ours), expected)
    assert float((unit(ours) - two_passes).abs().max()) <= 1e-5
    without = editor.repaint(image, mask, PROMPTS, generators(3, 4), steps=steps, guidance=1.0)
    assert float((unit(ours) - unit(without)).abs().max()) > 1e-3


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_batch_equals_its_singles(folder: Path, dtype: torch.dtype, within: float) -> None:
    editor = load_flux_fill(str(folder), dtype=dtype)
    image, mask = tensors(*scenes(48, 40, count=4))
    prompts, true_cfg = [*PROMPTS, "remove", "blue disc"], [4.0, 1.0, 2.0, 1.0]
    refused, settings = ["nsfw", "a", "nsfw", "red"], {"steps": 4, "guidance": 3.5}
    batch = editor.repaint(
        image, mask, prompts, generators(*range(4)), true_cfg=true_cfg, negative_prompt=refused, **settings
    )
    singles = torch.cat(
        [
            editor.repaint(
                image[one : one + 1],
                mask[one : one + 1],
                prompts[one : one + 1],
                generators(one),
                true_cfg=true_cfg[one],
                negative_prompt=refused[one],
                **settings,
            )
            for one in range(4)
        ]
    )
    assert batch.dtype == dtype and float((batch - singles).abs().max()) <= within
    greys = [numpy.stack([tensor_to_image(one) for one in images]).astype(int) for images in (batch, singles)]
    difference = numpy.abs(greys[0] - greys[1])
    assert difference.max() <= 1 and (difference > 0).mean() <= 0.001


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_nearly_the_same_image(folder: Path, editor: FluxFill, dtype: torch.dtype) -> None:
    image, mask = tensors(*scenes(32, 32))
    small = load_flux_fill(str(folder), dtype=dtype)
    assert {parameter.dtype for parameter in small.transformer.parameters()} == {dtype}
    condition, exact = small.encode(image, mask, PROMPTS), editor.encode(image, mask, PROMPTS)
    noise, times = editor.noise(exact, [(0,), (1,)]), editor.times(exact, 4)
    images = [
        one.decode(denoise(lambda x, t, one=one, c=c: one.velocity(x, t, c), noise, times), c)
        for one, c in ((small, condition), (editor, exact))
    ]
    difference = images[0] - images[1]
    assert images[0].dtype == torch.float32
    assert 0 < float(difference.square().mean().sqrt()) < 0.05 * float(images[1].std())


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


def test_each_sample_has_its_own_negative_prompt(editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32))
    settings = {"true_cfg": 4.0, "generators": None}
    listed = editor.encode(image, mask, PROMPTS, negative_prompt=["nsfw", "a"], **settings)
    one = editor.encode(image, mask, PROMPTS, negative_prompt="nsfw", **settings)
    assert listed.negative is not None and one.negative is not None
    assert torch.equal(listed.negative.tokens_BTD[0], one.negative.tokens_BTD[0])
    assert not torch.equal(listed.negative.tokens_BTD[1], one.negative.tokens_BTD[1])
    same = editor.encode(image, mask, PROMPTS, negative_prompt=["nsfw", "nsfw"], **settings)
    assert same.negative is not None and torch.equal(same.negative.tokens_BTD, one.negative.tokens_BTD)
    with pytest.raises(ValueError, match="got 1 negative prompts for 2 samples"):
        editor.encode(image, mask, PROMPTS, negative_prompt=["nsfw"], **settings)


def test_kept_texts_need_no_encoder(folder: Path, editor: FluxFill) -> None:
    image, mask = tensors(*scenes(32, 32))
    settings = {"steps": 2, "true_cfg": 4.0, "negative_prompt": "nsfw"}
    small = load_flux_fill(str(folder))
    encoders = [weakref.ref(small.text_encoder), weakref.ref(small.text_encoder_2)]
    small.keep_texts([*PROMPTS, "nsfw", PROMPTS[0]])
    small.free_text_encoders()
    assert [encoder() for encoder in encoders] == [None, None]
    for index in range(2):  # kept texts were encoded one by one, as those of a single edit are
        one = image[index : index + 1], mask[index : index + 1], PROMPTS[index : index + 1], generators(index)
        copy = (*one[:3], generators(index))
        assert torch.equal(small.repaint(*one, **settings), editor.repaint(*copy, **settings))
    batch = small.repaint(image, mask, PROMPTS, generators(0, 1), **settings)
    assert torch.allclose(batch, editor.repaint(image, mask, PROMPTS, generators(0, 1), **settings), atol=1e-5)
    with pytest.raises(ValueError, match="the text encoders were freed, and the prompt 'a' was not kept"):
        small.encode(image, mask, [PROMPTS[0], "a"])
    with pytest.raises(ValueError, match="the text encoders were freed: load the editor again"):
        _ = small.text_encoder_2
    save_editor(folder.with_name("lone"), small)  # the transformer alone, for which the rest comes from its base
    lone = load_flux_fill(str(folder.with_name("lone")), base=str(folder))
    assert torch.equal(
        lone.repaint(image, mask, PROMPTS, generators(0, 1), **settings),
        editor.repaint(image, mask, PROMPTS, generators(0, 1), **settings),
    )


def test_the_contract_s_shift_wins_over_the_scheduler_s(folder: Path, editor: FluxFill, tmp_path: Path) -> None:
    shift = Shift(base_tokens=100, max_tokens=1000, base_mu=0.25, max_mu=2.0)
    save_editor(tmp_path / "saved", editor, contract=replace(editor.contract, shift=shift))
    scheduler = FluxFillPipeline.from_pretrained(tmp_path / "saved").scheduler
    assert shift_of(scheduler) == shift and shift_of(editor.scheduler) == Shift()
    saved = load_flux_fill(str(tmp_path / "saved"))
    assert saved.shift == shift == saved.contract.shift
    condition = editor.encode(*tensors(*scenes(32, 32)), PROMPTS)
    assert torch.equal(saved.times(condition, 4), shifted_times(4, 16, shift))
    assert not torch.equal(saved.times(condition, 4), editor.times(condition, 4))
    (tmp_path / "saved" / "scheduler" / "scheduler_config.json").write_bytes(
        (folder / "scheduler" / "scheduler_config.json").read_bytes()
    )
    differing = load_flux_fill(str(tmp_path / "saved"))
    assert differing.shift == shift == shift_of(differing.scheduler)
