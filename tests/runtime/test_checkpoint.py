"""Checkpoints: whole or absent, the last few kept, tensors in memory of their own, the thread count restored."""

from pathlib import Path
from typing import Any

import pytest
import torch

from onereward.runtime.checkpoint import Checkpoints
from onereward.runtime.threads import torch_threads


class Holder:
    """A part that keeps what it is given."""

    def __init__(self, value: float) -> None:
        self.state: dict[str, Any] = {"weights": torch.full((3,), value), "steps": [torch.tensor(value)]}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.state = state_dict


def test_the_last_whole_checkpoint_is_loaded_and_older_ones_dropped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load_last({"part": Holder(0.0)}) == 0
    for step in (1, 2, 3):
        checkpoints.save(step, {"part": Holder(float(step))})
    (tmp_path / "step-00000004.part").mkdir()
    assert checkpoints.steps() == [2, 3]
    holder = Holder(0.0)
    assert checkpoints.load_last({"part": holder}) == 3
    assert holder.state["weights"].tolist() == [3.0] * 3 and holder.state["steps"][0].item() == 3.0


def test_a_failed_save_leaves_the_last_checkpoint_and_nothing_half(tmp_path: Path) -> None:
    class Full(Holder):
        def state_dict(self) -> dict[str, Any]:
            raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"part": Holder(1.0)})
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, {"part": Holder(2.0), "other": Full(2.0)})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_names_the_way_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"part": Holder(1.0)})
    (tmp_path / "step-00000001" / "part.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"cannot read .*part.pt.*delete .*step-00000001"):
        checkpoints.load_last({"part": Holder(0.0)})


def test_the_thread_count_is_restored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    with torch_threads(1):
        checkpoints.save(1, {"part": Holder(1.0)})
    with torch_threads(2):
        checkpoints.load_last({"part": Holder(0.0)})
        assert torch.get_num_threads() == 1
