"""What a judge answers about preferences: the one path for validation inside training and evaluation alone.

Shape legend: B preferences, H W pixels.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from onereward.metrics.records import Answer
from onereward.query import Variant, build_query
from onereward.reward import TwoWayJudge
from onereward.runtime.batches import batches_of
from onereward.store.images import decode_image, image_size, image_to_tensor
from onereward.terms import Preference


@torch.no_grad()
def answer_preferences(
    judge: TwoWayJudge, preferences: Sequence[Preference], variant: Variant, label: str, *, batch: int = 32
) -> list[Answer]:
    """The judge's answer about each preference, in order, asked as `variant` and reported under the name `label`."""
    answers: dict[int, Answer] = {}
    for places in places_by_size(preferences, batch):
        asked = [preferences[place] for place in places]
        winner_B3HW, loser_B3HW = stack_pairs(asked)
        queries = [[build_query(p.task, p.dimension, p.prompt, variant)] for p in asked]
        forward_B1, backward_B1 = judge.log_odds_both_orders(winner_B3HW, loser_B3HW, queries)
        for place, preference, forward, backward in zip(places, asked, forward_B1, backward_B1, strict=True):
            answers[place] = Answer(
                triplet_id=preference.triplet_id,
                task=preference.task,
                dimension=preference.dimension,
                variant=label,
                winner_first=forward.item(),
                loser_first=backward.item(),
            )
    return [answers[place] for place in range(len(preferences))]


def stack_pairs(preferences: Sequence[Preference]) -> tuple[Tensor, Tensor]:
    """winner_B3HW and loser_B3HW in [-1, 1] of preferences whose images have one size; ValueError otherwise."""
    winners = [image_to_tensor(decode_image(p.winner, f"the winner of {p.triplet_id}")) for p in preferences]
    losers = [image_to_tensor(decode_image(p.loser, f"the loser of {p.triplet_id}")) for p in preferences]
    for preference, winner, loser in zip(preferences, winners, losers, strict=True):
        if winner.shape != loser.shape:
            raise ValueError(
                f"{preference.triplet_id}: the winner is {winner.shape[2]}x{winner.shape[1]}, the loser "
                f"{loser.shape[2]}x{loser.shape[1]}; a pair has one size: bring both images to it"
            )
    return torch.stack(winners), torch.stack(losers)


def places_by_size(preferences: Sequence[Preference], at_most: int) -> Iterator[list[int]]:
    """Places of preferences whose winners have one size, `at_most` at a time."""
    return batches_of(range(len(preferences)), at_most, lambda place: _size_of(preferences[place]))


def _size_of(preference: Preference) -> tuple[int, int]:
    return image_size(preference.winner, f"the winner of {preference.triplet_id}")
