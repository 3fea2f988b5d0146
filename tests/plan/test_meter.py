"""Bytes and operations, worked by hand, of real tensors and of shapes alike."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from onereward.plan.meter import MODELS, Meter, shapes

KIND = pytest.mark.parametrize("kind", [nullcontext, shapes], ids=["tensors", "shapes"])


@pytest.fixture
def meter() -> Iterator[Meter]:
    with Meter() as meter:
        yield meter


@KIND
def test_a_storage_counts_once_and_until_nothing_refers_to_it(meter: Meter, kind: type) -> None:
    with kind():
        numbers = torch.zeros(10, 100)  # 4000 bytes
    view = numbers.t()[3:]
    doubled = numbers * 2
    del numbers
    assert meter.taken[MODELS].peak == 8000
    del doubled
    halved = view.to(torch.bfloat16)  # 100 x 10 less 3 rows of 10, 2 bytes each
    meter.restart()
    assert meter.taken[MODELS].peak == 4000 + 97 * 10 * 2
    del view, halved
    meter.restart()
    assert meter.taken[MODELS].peak == 0


@KIND
def test_phases_labels_and_shares(kind: type) -> None:
    with Meter({"weights": 0.25}) as meter:
        with kind():
            weights = torch.zeros(1000)
        meter.name([weights], "weights")
        with meter.phase("forward"):
            kept = weights + 1
            with meter.phase("inner"):
                brief = kept + 1
                del brief
        with meter.phase("backward"):
            pass
    assert {name: taken.peak for name, taken in meter.taken.items()} == {
        MODELS: 5000,
        "forward": 5000,
        "inner": 9000,
        "backward": 5000,
    }
    assert meter.taken["inner"].by_label == {"weights": 1000, MODELS: 0, "forward": 4000, "inner": 4000}


@KIND
def test_what_a_watched_module_makes_is_its_own_also_when_it_is_computed_again(meter: Meter, kind: type) -> None:
    with kind():
        layer = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 10))
        inputs = torch.zeros(500, 10, requires_grad=True)
    meter.name(layer.parameters(), "weights")
    meter.watch(layer, "layer")
    with meter.phase("forward"):
        output = checkpoint(layer, inputs, use_reentrant=False)
    hidden = 500 * 1000 * 4
    assert meter.taken["forward"].by_label["layer"] == 2 * hidden  # before and after the ReLU
    assert meter.bytes_of("layer") == 500 * 10 * 4  # the output; what is inside is computed again
    with meter.phase("backward"):
        output.sum().backward()
    assert meter.taken["backward"].by_label["layer"] == hidden + 500 * 10 * 4
    assert meter.modules == {"layer": 1}


def test_a_call_of_a_watched_module_can_be_a_phase(meter: Meter) -> None:
    layer, inputs = nn.Linear(10, 10), torch.zeros(5, 10)
    meter.watch(layer, "layer", lambda: "graded" if torch.is_grad_enabled() else "rollout")
    layer(inputs)
    with torch.no_grad():
        layer(inputs)
        layer(inputs)
    product = 2 * 5 * 10 * 10
    assert meter.taken["graded"].flops.total() == product
    assert meter.taken["rollout"].flops.total() == 2 * product


@KIND
def test_operations_of_a_product_and_of_attention_both_ways(meter: Meter, kind: type) -> None:
    with kind():
        inputs, layer = torch.zeros(6, 10), nn.Linear(10, 20, dtype=torch.float32)
        query = torch.zeros(1, 2, 8, 4, dtype=torch.bfloat16, requires_grad=True)
    with meter.phase("forward"):
        output = layer(inputs)
    with meter.phase("backward"):
        output.sum().backward()
    product = 2 * 6 * 10 * 20
    assert meter.taken["forward"].flops == {torch.float32: product}
    assert meter.taken["backward"].flops == {torch.float32: product}  # the inputs take no gradient
    with meter.phase("attention"):
        attended = functional.scaled_dot_product_attention(query, query, query)
    with meter.phase("attention backward"):
        attended.float().sum().backward()
    scores = 2 * 2 * 8 * 8 * 4  # two heads, 8 x 8 scores of 4 products each
    assert meter.taken["attention"].flops == {torch.bfloat16: 2 * scores}
    assert meter.taken["attention backward"].flops == {torch.bfloat16: 5 * scores}


def test_a_number_read_off_a_shape_is_one(meter: Meter) -> None:
    with shapes():
        norm = torch.zeros(3).norm()
    assert norm.item() == 1.0
    assert torch.zeros(3).norm().item() == 0.0
