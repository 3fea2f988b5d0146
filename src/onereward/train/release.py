"""What a run of RL gives away: the policy or its average, as the editor that `edit`, `evaluate` and others load."""

from contextlib import nullcontext
from functools import partial

import torch

from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.flux_fill import FluxFill
from onereward.models.load import save_editor, save_lora
from onereward.runtime.mesh import Mesh
from onereward.runtime.shard import whole_state
from onereward.store.rundir import RunDir
from onereward.train.rl_config import Release, TrainRLConfig


def write_final(
    run: RunDir,
    mesh: Mesh,
    config: TrainRLConfig,
    editor: FluxFill,
    copies: WholeCopies,
    *,
    dtype: torch.dtype,
    after: int,
) -> None:
    """`final/` after so many steps: adapters as a LoRA, else the whole editor in `dtype`; all processes call it."""
    kept = nullcontext() if config.release is Release.POLICY else copies.kept_average.in_place()
    with kept:
        state = whole_state(copies.module, trained_only=True)
    if mesh.rank == 0:
        if isinstance(copies, AdapterCopies):
            save = partial(save_lora, editor=editor, base=config.editor, lora=copies.lora, state=state)
        else:
            state = {name: tensor.to(dtype) for name, tensor in state.items()}
            save = partial(save_editor, editor=editor, state=state)
        run.write_final(config.steps, save, after=after)
    mesh.wait()
