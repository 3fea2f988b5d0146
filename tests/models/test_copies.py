"""The three states of one transformer against as many stock ones, in both precisions, with recomputed activations."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from torch import Tensor, nn

from onereward.ema import WeightCopy
from onereward.models.base import Transformer
from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.runtime.update import Updater

RANK = 3
KINDS = pytest.mark.parametrize("kind", ["weights", "adapters"])


@pytest.fixture(scope="module")
def stock() -> FluxTransformer2DModel:
    """A random FLUX of width 16 with every kind of block."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FluxTransformer2DModel(
            in_channels=12,
            out_channels=4,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            guidance_embeds=True,
            axes_dims_rope=(2, 2, 4),
        ).eval()


def copies_of(kind: str, stock: nn.Module, **options: Any) -> WholeCopies:
    transformer = deepcopy(stock)
    if kind == "adapters":
        return AdapterCopies(transformer, rank=RANK, seed=0, **options)
    return WholeCopies(transformer, keep_start=True, **options)


def moved(kind: str, stock: nn.Module, **options: Any) -> WholeCopies:
    """Copies whose policy has moved away from the start, and the average a part of the way."""
    copies = copies_of(kind, stock, **options)
    with torch.no_grad():
        for seed, parameter in enumerate(trained(copies).values()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed))
    copies.update_average(0.7)
    return copies


def trained(copies: WholeCopies) -> dict[str, nn.Parameter]:
    return {name: each for name, each in copies.module.named_parameters() if each.requires_grad}


def values_of(copies: WholeCopies) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in trained(copies).items()}


def stock_with(kind: str, stock: nn.Module, values: dict[str, Tensor]) -> nn.Module:
    """A stock transformer with those weights; adapters put on by diffusers."""
    transformer: Any = deepcopy(stock)
    if kind == "adapters":
        transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(linears(stock))), "policy")
    found = transformer.load_state_dict(values, strict=False)
    assert not found.unexpected_keys
    assert {name for name, each in transformer.named_parameters() if each.requires_grad} == set(values)
    return transformer


def linears(transformer: nn.Module) -> dict[str, nn.Linear]:
    """Those in a block that see tokens, not only the time and the guidance, as modulation does."""
    found = {name: each for name, each in transformer.named_modules() if isinstance(each, nn.Linear)}
    return {name: each for name, each in found.items() if "_blocks." in name and ".norm" not in name}


def ask(transformer: Transformer | nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """The prediction for six tokens and three words, batch of two."""
    draw = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).to(dtype)

    prediction: Tensor = transformer(
        hidden_states=normal(2, 6, 12),
        timestep=torch.tensor([0.4, 0.7]),
        guidance=torch.tensor([3.5, 3.5]),
        pooled_projections=normal(2, 8),
        encoder_hidden_states=normal(2, 3, 8),
        txt_ids=torch.zeros(3, 3),
        img_ids=torch.cartesian_prod(torch.zeros(1), torch.arange(2.0), torch.arange(3.0)),
        return_dict=False,
    )[0]
    return prediction


@torch.no_grad()
def quietly_asked(transformer: Transformer | nn.Module) -> Tensor:
    return ask(transformer)


def gradients(copies: WholeCopies, between: Callable[[], object] = lambda: None) -> dict[str, Tensor]:
    """Those of a step, with `between` done after the way there and before the way back."""
    copies.module.zero_grad(set_to_none=True)
    loss = ask(copies.policy).square().sum()
    between()
    loss.backward()
    missing = [name for name, each in trained(copies).items() if each.grad is None]
    assert missing == []
    return {name: each.grad for name, each in trained(copies).items() if each.grad is not None}


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert one.keys() == two.keys() and one
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.parametrize("offload", [False, True], ids=["here", "offloaded"])
@KINDS
def test_each_state_is_a_stock_transformer_of_its_own_bit_for_bit(kind: str, offload: bool, stock: nn.Module) -> None:
    copies = moved(kind, stock, offload=offload)
    policy = quietly_asked(stock_with(kind, stock, values_of(copies)))
    average = quietly_asked(stock_with(kind, stock, copies.kept_average.values))
    start = quietly_asked(stock)
    for _ in range(2):  # the second time after all the changes of place
        assert torch.equal(quietly_asked(copies.policy), policy)
        assert torch.equal(quietly_asked(copies.average), average)
        assert torch.equal(quietly_asked(copies.start), start)
    distances = [(one - other).abs().max() for one, other in ((policy, average), (policy, start), (average, start))]
    assert min(distances) > 1e-3


@KINDS
def test_before_training_all_three_are_the_base_bit_for_bit(kind: str, stock: nn.Module) -> None:
    copies = copies_of(kind, stock)
    for state in (copies.policy, copies.average, copies.start):
        assert torch.equal(quietly_asked(state), quietly_asked(stock))


@KINDS
def test_the_average_follows_the_policy_by_its_decay(kind: str, stock: nn.Module) -> None:
    copies = copies_of(kind, stock)
    before = {name: each.clone() for name, each in copies.kept_average.values.items()}
    with torch.no_grad():
        for parameter in trained(copies).values():
            parameter += 1
    copies.update_average(0.75)
    assert before.keys() == copies.kept_average.values.keys()
    for name, value in copies.kept_average.values.items():
        assert torch.allclose(value, before[name] + 0.25, atol=1e-6)


@KINDS
def test_only_the_policy_takes_a_gradient_whatever_else_was_asked(kind: str, stock: nn.Module) -> None:
    copies = moved(kind, stock)
    expected = gradients(copies)
    before = values_of(copies)

    def ask_the_others() -> None:
        quietly_asked(copies.start)
        quietly_asked(copies.average)

    assert_equal(gradients(copies, ask_the_others), expected)
    assert_equal(values_of(copies), before)
    for state in (copies.average, copies.start):
        with pytest.raises(AssertionError, match="only the policy"):
            ask(state)


def test_the_adapters_are_on_every_linear_that_tokens_go_through_and_drawn_from_the_seed(stock: nn.Module) -> None:
    expected = set(linears(stock))
    state = torch.random.get_rng_state()
    one, same = (AdapterCopies(deepcopy(stock), rank=RANK, seed=5) for _ in "12")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name.partition(".lora_")[0] for name in trained(one)} == expected
    assert all(sum(parameter.startswith(f"{name}.lora_") for parameter in trained(one)) == 2 for name in expected)
    assert_equal(values_of(one), values_of(same))
    other = values_of(AdapterCopies(deepcopy(stock), rank=RANK, seed=6))
    assert all(not torch.equal(values_of(one)[name], other[name]) for name in other if "lora_A" in name)


def bytes_held(copies: WholeCopies) -> int:
    """Of the module's weights and all second and third values of them."""
    others = [each for each in vars(copies).values() if isinstance(each, WeightCopy)]
    tensors = [*copies.module.parameters(), *(value for kept in others for value in kept.values.values())]
    return sum({each.data_ptr(): each.nbytes for each in tensors}.values())


def test_three_states_cost_three_sets_of_weights_or_one_base_and_two_sets_of_adapters(stock: nn.Module) -> None:
    small = deepcopy(stock).to(torch.bfloat16)
    base = sum(parameter.nbytes for parameter in small.parameters())
    assert bytes_held(copies_of("weights", small)) == 3 * 2 * base  # float32 is twice bfloat16
    assert bytes_held(WholeCopies(deepcopy(small), keep_start=False)) == 2 * 2 * base
    copies = copies_of("adapters", small)
    adapters = sum(parameter.nbytes for parameter in trained(copies).values())
    quietly_asked(copies_of("adapters", stock).average)
    assert bytes_held(copies) == base + 2 * adapters
    assert adapters == sum(4 * RANK * sum(each.weight.shape) for each in linears(small).values())


@KINDS
def test_what_is_trained_is_kept_in_float32_so_that_small_steps_are_not_rounded_away(
    kind: str, stock: nn.Module
) -> None:
    """At a learning rate of 5e-6 a weight of .02 in bfloat16, 8 bits of which follow the point, would stand still."""
    rate = 5e-6
    assert torch.tensor(0.02, dtype=torch.bfloat16) + rate == torch.tensor(0.02, dtype=torch.bfloat16)
    copies = copies_of(kind, deepcopy(stock).to(torch.bfloat16), bfloat16=True)
    before = values_of(copies)
    assert {each.dtype for each in (*before.values(), *copies.kept_average.values.values())} == {torch.float32}
    update = Updater(copies.module, learning_rate=rate, weight_decay=0.0, clip=1e9)
    update(iter([ask(copies.policy, torch.bfloat16).square().sum()]))
    for name, parameter in trained(copies).items():
        assert parameter.grad is not None
        reached = parameter.grad.abs() > 1e-6  # far above Adam's epsilon: a first step is of the rate's size
        step = (parameter - before[name]).abs()[reached]
        assert torch.allclose(step, torch.tensor(rate), rtol=0.05), name
        assert reached.any() or "lora_A" in name  # with B at 0 A has no gradient yet
    copies.update_average(0.5)
    average = copies.kept_average.values
    assert any((average[name] != before[name]).float().mean() > 0.5 for name in before)


@KINDS
def test_bfloat16_is_the_stock_transformer_under_autocast_bit_for_bit(kind: str, stock: nn.Module) -> None:
    copies = moved(kind, stock, bfloat16=True)
    plain = stock_with(kind, stock, values_of(copies))
    with torch.autocast("cpu", torch.bfloat16):
        expected = quietly_asked(plain)
    assert torch.equal(quietly_asked(copies.policy), expected)
    assert not torch.equal(expected, quietly_asked(plain))


@KINDS
def test_no_cast_outlives_a_call(kind: str, stock: nn.Module) -> None:
    """Autocast keeps the weights that it has cast: of a rollout without gradient, of values that are elsewhere now."""
    copies = moved(kind, stock, bfloat16=True)
    expected = {name: each.clone() for name, each in gradients(copies).items()}
    average = quietly_asked(copies.average)
    with torch.autocast("cpu", torch.bfloat16):
        quietly_asked(copies.policy)
        assert_equal(gradients(copies), expected)
        assert torch.equal(quietly_asked(copies.average), average)


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "bfloat16"])
@KINDS
def test_recomputed_activations_give_the_same_gradients_bit_for_bit(
    kind: str, bfloat16: bool, stock: nn.Module
) -> None:
    """Also if another state had the weights' place between the way there and the way back."""
    copies = moved(kind, stock, bfloat16=bfloat16)
    expected = {name: each.clone() for name, each in gradients(copies).items()}
    transformer: Any = copies.module
    transformer.enable_gradient_checkpointing()
    forwards = []
    transformer.transformer_blocks[0].register_forward_pre_hook(lambda *_: forwards.append(1))
    assert_equal(gradients(copies, lambda: quietly_asked(copies.average)), expected)
    assert len(forwards) == 3  # there, the average's, and again on the way back
