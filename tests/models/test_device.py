"""Where a model is put, and the one line that says so when it cannot be as asked."""

import logging
from collections.abc import Callable

import pytest
import torch

from onereward.models.device import default_device, default_dtype, device_named, dtype_named

BOTH = {"cuda": torch.device("cuda"), "mps": torch.device("mps")}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets torch report other hardware than this machine's; nothing is ever put on it."""

    def report(*, gpus: int = 0, mps: bool = False, bf16: bool = True, macos: int = 15) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: macos >= major)

    return report


@pytest.mark.parametrize(
    ("gpus", "mps", "auto", "default"),
    [(2, False, "cuda", "cuda"), (1, True, "cuda", "cuda"), (0, True, "mps", "cpu"), (0, False, "cpu", "cpu")],
)
def test_auto_takes_cuda_then_apple_s_gpu_then_the_cpu(
    machine: Callable[..., None], gpus: int, mps: bool, auto: str, default: str
) -> None:
    machine(gpus=gpus, mps=mps)
    assert device_named("auto") == torch.device(auto) and default_device() == torch.device(default)


def test_a_device_that_is_not_there_is_refused_with_what_is(machine: Callable[..., None]) -> None:
    machine(gpus=2)
    assert device_named("cuda:1") == torch.device("cuda:1") and device_named("cpu") == torch.device("cpu")
    for absent in ("cuda:2", "mps", "gpu", "meta"):
        with pytest.raises(
            ValueError, match=rf"got device {absent}, expected one of this machine: auto, cpu, cuda, cuda:0, cuda:1$"
        ):
            device_named(absent)
    machine()
    with pytest.raises(ValueError, match=r"got device cuda, expected one of this machine: auto, cpu$"):
        device_named("cuda")


def test_the_precision_is_that_of_the_device(machine: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    machine(gpus=1, mps=True)
    assert dtype_named("auto", torch.device("cpu")) == torch.float32 == default_dtype(torch.device("cpu"))
    assert {dtype_named("auto", device) for device in BOTH.values()} == {torch.bfloat16}
    assert dtype_named("bf16", torch.device("cpu")) == torch.bfloat16
    assert dtype_named("fp64", BOTH["cuda"]) == torch.float64
    assert caplog.text == ""
    with pytest.raises(ValueError, match="got dtype float32, expected one of auto, bf16, fp16, fp32, fp64"):
        dtype_named("float32", torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "asked", "got", "line"),
    [
        ("cuda", "auto", torch.float16, "the device cuda has no bf16: computing in fp16 instead"),
        ("mps", "bf16", torch.float16, "the device mps has no bf16: computing in fp16 instead"),
        ("mps", "fp64", torch.float32, "the device mps has no fp64: computing in fp32 instead"),
    ],
)
def test_a_fallback_is_said_in_one_line(
    machine: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    device: str,
    asked: str,
    got: torch.dtype,
    line: str,
) -> None:
    machine(gpus=1, mps=True, bf16=False, macos=13)
    with caplog.at_level(logging.WARNING):
        assert dtype_named(asked, BOTH[device]) == got
    assert caplog.messages == [line]
