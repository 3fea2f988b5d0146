"""Comparisons a second of judge training (pairs x dimensions x orders): the packed step against TRL's SFTTrainer.

    OMP_NUM_THREADS=1 python -m benchmarks.judge_training [--image-size 448 --pairs 2 --rounds 5]

The model is that of `benchmarks.judge_scoring` (its vision tower's share of the multiplications is about the 7B's),
in float32 on one thread; both train a copy of it, every weight, by AdamW, on the same comparisons in the same
batches. Ours is `reward.reward_step` and the `Updater` of `train-reward`. TRL's is one sequence a comparison with the
answer as its only label, the usual way to train a judge with it, set up with care: texts tokenised and images cut
into patches before the clock starts (ours does both inside); one dimension at a time, accumulated over the batch, so
that nothing is padded and few sequences are in memory (on a CPU 16 at a time take longer than 4 times 4); no
checkpoints, log or evaluation. After each step of TRL's trainer ours takes one; a ratio is the median over the steps
of the ratio of two neighbours. TRL's loss is over the whole vocabulary and ours over the two answers; the run fails
unless Eq. 3 over the whole vocabulary, computed our way, has TRL's value and TRL's gradient for every weight.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from benchmarks.judge_scoring import (
    DIMENSIONS_ASKED,
    PROMPT,
    QUERIES,
    SIXTEENTH,
    TOLERANCE,
    Sizes,
    chat_ids,
    describe,
    noise_pair,
    random_judge,
    ratio,
)
from onereward.models.qwen_pixels import grid_thw, patches_of
from onereward.models.qwen_vl import QwenVLJudge
from onereward.reward import Comparison, reward_step
from onereward.runtime.threads import torch_threads
from onereward.runtime.update import Updater
from onereward.terms import Task

ORDERS = (False, True)
"""Whether the second image is shown first."""
LEARNING_RATE = 1e-6
CLIP = 1.0
IGNORED = -100
"""The label of a token that no loss is taken of."""


@dataclass(frozen=True, kw_only=True)
class Votes:
    """Pairs of images, each with a vote in every dimension."""

    first_B3HW: Tensor
    second_B3HW: Tensor
    comparisons: Sequence[Sequence[Comparison]]

    def part(self, pairs: slice) -> "Votes":
        """Some of the pairs."""
        return Votes(
            first_B3HW=self.first_B3HW[pairs],
            second_B3HW=self.second_B3HW[pairs],
            comparisons=self.comparisons[pairs],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=448, metavar="PX")
    parser.add_argument("--pairs", type=int, default=2, metavar="N", help="pairs in a batch")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps of each, after one to warm up")
    args = parser.parse_args()
    with torch_threads(1):
        print(json.dumps(measure(SIXTEENTH, args.image_size, args.pairs, args.rounds), indent=1))


def measure(sizes: Sizes, image_size: int, pairs: int, rounds: int) -> dict[str, Any]:
    """Comparisons a second of both and their ratio; RuntimeError unless both train on the same loss."""
    judge = random_judge(sizes, torch.device("cpu"), torch.float32)
    votes = random_votes((rounds + 1) * pairs, image_size)
    batches = [votes.part(slice(start, start + pairs)) for start in range(0, len(votes.comparisons), pairs)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = sft_trainer(judge, copy.deepcopy(judge.model), batches, folder)
        losses = compare(judge, trainer, batches[0])
        differences = losses["loss_difference"], losses["gradient_difference"]
        if max(differences) > TOLERANCE:
            raise RuntimeError(f"TRL trains on another loss than ours: {losses}, expected at most {TOLERANCE}")
        updater = Updater(judge.model, learning_rate=LEARNING_RATE, weight_decay=0, clip=CLIP)
        remaining = iter(batches)
        turns = Turns(lambda: updater(iter([packed_loss(judge, next(remaining))])))
        trainer.add_callback(turns)
        trainer.train()
    trl, ours = turns.trl[1:], turns.ours[1:]  # the first step warms up
    comparisons = pairs * len(QUERIES) * len(ORDERS)
    return {
        **describe(judge, image_size),
        "comparisons_in_a_batch": comparisons,
        "comparisons/s, trl": round(comparisons / statistics.median(trl), 3),
        "comparisons/s, ours": round(comparisons / statistics.median(ours), 3),
        "ours over trl": ratio(trl, ours),
        **losses,
    }


def random_votes(pairs: int, image_size: int) -> Votes:
    """Noise, on which a coin votes."""
    first_B3HW, second_B3HW = noise_pair(pairs, image_size, torch.device("cpu"))
    wins = torch.rand(pairs, len(QUERIES), generator=torch.Generator().manual_seed(1)) < 0.5
    return Votes(
        first_B3HW=first_B3HW.detach(),
        second_B3HW=second_B3HW.detach(),
        comparisons=[
            [
                Comparison(task=Task.FILL, dimension=dimension, prompt=PROMPT, first_wins=first_wins)
                for dimension, first_wins in zip(DIMENSIONS_ASKED, row, strict=True)
            ]
            for row in wins.tolist()
        ],
    )


def packed_loss(judge: QwenVLJudge, votes: Votes) -> Tensor:
    """Ours."""
    return reward_step(judge, votes.comparisons, votes.first_B3HW, votes.second_B3HW).loss


def packed_loss_over_all_words(judge: QwenVLJudge, votes: Votes) -> Tensor:
    """Eq. 3 with probabilities over the whole vocabulary, which is what a language model's trainer takes."""
    queries = [QUERIES] * len(votes.comparisons)
    forward, backward = judge.answer_both_orders(votes.first_B3HW, votes.second_B3HW, queries)
    first_wins_BK = torch.tensor([[comparison.first_wins for comparison in row] for row in votes.comparisons])
    yes_BK = torch.where(first_wins_BK, forward.log_yes_BK, backward.log_yes_BK)
    no_BK = torch.where(first_wins_BK, backward.log_no_BK, forward.log_no_BK)
    return -0.5 * (yes_BK + no_BK).mean()


class Turns(TrainerCallback):
    """After each step of a trainer takes one of ours; `trl` and `ours` are seconds, from batch to updated weights."""

    def __init__(self, step: Callable[[], object]) -> None:
        self.trl: list[float] = []
        self.ours: list[float] = []
        self._step = step
        self._since = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._since = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        theirs = time.perf_counter()
        self._step()
        now = time.perf_counter()
        self.trl.append(theirs - self._since)
        self.ours.append(now - theirs)
        print(f"step {len(self.trl)}: trl {self.trl[-1]:.3f} s, ours {self.ours[-1]:.3f} s", file=sys.stderr)
        self._since = time.perf_counter()


def sft_trainer(judge: QwenVLJudge, model: Any, batches: Sequence[Votes], folder: str) -> SFTTrainer:
    """A trainer of `model` that takes a step a batch; it sees the batches' comparisons dimension by dimension."""
    pairs = len(batches[0].comparisons)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=folder,
            max_steps=len(batches),
            per_device_train_batch_size=pairs * len(ORDERS),
            gradient_accumulation_steps=len(QUERIES),
            train_sampling_strategy="sequential",
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            dataloader_pin_memory=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        data_collator=Collator(judge, batches),
        train_dataset=Dataset.from_list(_rows(judge, batches)),
        processing_class=judge.tokenizer,
        optimizers=(torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0), None),
    )
    trainer.remove_callback(PrinterCallback)  # it prints where the result goes
    return trainer


def _rows(judge: QwenVLJudge, batches: Sequence[Votes]) -> list[dict[str, Any]]:
    """A row a comparison and order, with the place of its pair among the pairs of all batches."""
    yes, no = judge.answer_ids
    size = batches[0].first_B3HW.shape[-2:]
    asked = [chat_ids(judge, query, size, 1)[0].tolist() for query in QUERIES]
    rows = []
    for number, votes in enumerate(batches):
        for k, ids in enumerate(asked):
            for b, comparisons in enumerate(votes.comparisons):
                for swapped in ORDERS:
                    answer = no if comparisons[k].first_wins is swapped else yes
                    rows.append(
                        {
                            "input_ids": [*ids, answer],
                            "labels": [*[IGNORED] * len(ids), answer],
                            "pair": number * len(votes.comparisons) + b,
                            "swapped": swapped,
                        }
                    )
    return rows


class Collator:
    """Rows to a batch of the stock class; the patches of all pairs are made once, here."""

    def __init__(self, judge: QwenVLJudge, batches: Sequence[Votes]) -> None:
        self._pad = judge.tokenizer.pad_token_id
        self._image_token = judge.model.config.image_token_id
        images_B23HW = torch.cat([torch.stack([votes.first_B3HW, votes.second_B3HW], dim=1) for votes in batches])
        patches_ND, grids = patches_of(images_B23HW.flatten(0, 1), judge.pixels)
        self._patches_B2ND = patches_ND.unflatten(0, (len(images_B23HW), 2, -1))
        self._grid_thw = grid_thw(grids[:2], judge.pixels)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        ids_BL = _padded([row["input_ids"] for row in rows], self._pad)
        length_B = torch.tensor([len(row["input_ids"]) for row in rows])
        pairs = [self._patches_B2ND[row["pair"]] for row in rows]
        shown = [pair.flip(0) if row["swapped"] else pair for pair, row in zip(pairs, rows, strict=True)]
        return {
            "input_ids": ids_BL,
            "labels": _padded([row["labels"] for row in rows], IGNORED),
            "attention_mask": (torch.arange(ids_BL.shape[1]) < length_B[:, None]).long(),
            "mm_token_type_ids": (ids_BL == self._image_token).int(),
            "pixel_values": torch.cat(shown).flatten(0, 1),
            "image_grid_thw": self._grid_thw.repeat(len(rows), 1),
        }


def _padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=value)


def compare(judge: QwenVLJudge, trainer: SFTTrainer, votes: Votes) -> dict[str, float]:
    """The losses of a trainer's first batch, and how far Eq. 3 over all words is from TRL's loss and gradient.

    Of a weight's gradient the largest difference counts, as a share of its largest value.
    """
    rows = trainer.train_dataset.select(range(len(votes.comparisons) * len(QUERIES) * len(ORDERS)))
    theirs = trainer.compute_loss(trainer.model.train(), trainer.data_collator(list(rows)))
    ours = packed_loss_over_all_words(judge, votes)
    gradients = zip(
        torch.autograd.grad(theirs, list(trainer.model.parameters())),
        torch.autograd.grad(ours, list(judge.model.parameters())),
        strict=True,
    )
    return {
        "loss, trl": theirs.item(),
        "loss, ours, over the two answers": packed_loss(judge, votes).item(),
        "loss_difference": (theirs - ours).abs().item(),
        "gradient_difference": max(((one - other).abs().max() / one.abs().max()).item() for one, other in gradients),
    }


if __name__ == "__main__":
    main()
