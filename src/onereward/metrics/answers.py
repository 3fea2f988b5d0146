"""What a judge answers about preferences: the one path for validation inside training and evaluation alone.

Shape legend: B preferences, H W pixels.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from onereward.metrics.records import Answer
from onereward.models.judge_contract import JudgeContract
from onereward.models.qwen_pixels import Images
from onereward.models.qwen_vl import Answers
from onereward.query import Variant, build_query
from onereward.store.images import decode_image, image_to_tensor
from onereward.terms import Preference


class AskedJudge(Protocol):
    """A judge that can be asked about pairs of any sizes in both orders at once."""

    @property
    def contract(self) -> JudgeContract:
        """How its log-odds are read as probabilities."""
        ...

    def answer_both_orders(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]]
    ) -> tuple[Answers, Answers]:
        """What it says of (first, second) and of (second, first)."""
        ...


@torch.no_grad()
def answer_preferences(
    judge: AskedJudge, preferences: Sequence[Preference], variant: Variant, label: str, *, batch: int = 32
) -> list[Answer]:
    """The judge's answer about each preference, in order, asked as `variant` and reported under the name `label`.

    Ties are answered too: whoever counts right answers leaves them out (`Answer.tie`).
    """
    answers: list[Answer] = []
    for start in range(0, len(preferences), batch):
        asked = preferences[start : start + batch]
        queries = [[build_query(p.task, p.dimension, p.prompt, variant)] for p in asked]
        both = judge.answer_both_orders([_winner(p) for p in asked], [_loser(p) for p in asked], queries)
        winner_first, loser_first = (order.log_odds_BK[:, 0].tolist() for order in both)
        outside = torch.stack([order.outside_BK[:, 0] for order in both]).mean(0).clamp(min=0).tolist()
        answers += [
            Answer(
                triplet_id=preference.triplet_id,
                task=preference.task,
                dimension=preference.dimension,
                variant=label,
                winner_first=winner_first[place],
                loser_first=loser_first[place],
                outside=outside[place],
                temperature=judge.contract.temperature(preference.dimension),
                source=preference.source,
                winner_index=preference.winner_index,
                loser_index=preference.loser_index,
                voter=preference.voter,
                kind=preference.kind,
                tie=preference.tie,
            )
            for place, preference in enumerate(asked)
        ]
    return answers


def _winner(preference: Preference) -> Tensor:
    return image_to_tensor(decode_image(preference.winner, f"the winner of {preference.triplet_id}"))


def _loser(preference: Preference) -> Tensor:
    return image_to_tensor(decode_image(preference.loser, f"the loser of {preference.triplet_id}"))
