"""What a step's log line says of the rewards: means by dimension, who is clipped, how the dimensions pull.

Shape legend: B samples, K dimensions, L latent tokens, C token channels.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from onereward.rl_terms import Graded
from onereward.terms import Dimension

ByDimension = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """P(yes) of one slot of a global batch in one dimension; `clipped` if lambda lets no gradient through."""

    slot: int
    dimension: Dimension
    prob: float
    clipped: bool


def answers_of(graded: Sequence[Graded]) -> list[Answer]:
    """The answers about a process's parts, those that only kept step with others left out."""
    found = []
    for part in graded:
        if part.batch.weight == 0:
            continue
        rows = zip(part.batch.keys, part.dimensions, part.prob_yes_BK.tolist(), part.hinge_BK.tolist(), strict=True)
        for key, own, probs, hinges in rows:
            for dimension, prob, hinge in zip(own, probs, hinges, strict=False):  # NaN beyond a sample's last
                found.append(Answer(slot=int(key[-1]), dimension=dimension, prob=prob, clipped=hinge == 0))
    return found


def mean_reward(answers: Iterable[Answer]) -> ByDimension:
    """Mean P(yes) of a global batch by dimension, over the samples that have it (Fig. 4)."""
    return _means((answer.slot, answer.dimension, answer.prob) for answer in answers)


def clipped_share(answers: Iterable[Answer]) -> ByDimension:
    """Share of the samples that are past the bound, by dimension."""
    return _means((answer.slot, answer.dimension, float(answer.clipped)) for answer in answers)


def _means(rows: Iterable[tuple[int, Dimension, float]]) -> ByDimension:
    """By dimension, summed in the slots' order, so that the number of processes changes nothing."""
    found: dict[Dimension, list[float]] = {}
    for _, dimension, value in sorted(rows):
        found.setdefault(dimension, []).append(value)
    return {dimension: sum(found[dimension]) / len(found[dimension]) for dimension in Dimension if dimension in found}


@dataclass(frozen=True, kw_only=True)
class Pull:
    """The gradient of each dimension's hinge with regard to x0_hat: mean norm a sample, and cosines between two."""

    norm: Mapping[str, float]
    cosine: Mapping[str, float]


def pull_of(graded: Sequence[tuple[Sequence[Sequence[Dimension]], Mapping[Dimension, Tensor]]]) -> Pull:
    """From `gradients_of` several parts."""
    norms: dict[str, list[float]] = {}
    cosines: dict[str, list[float]] = {}
    for dimensions, gradients in graded:
        for row, own in enumerate(dimensions):
            for dimension in own:
                norms.setdefault(dimension, []).append(gradients[dimension][row].norm().item())
            for one, other in combinations(own, 2):
                pair = torch.stack([gradients[one][row].flatten(), gradients[other][row].flatten()])
                if bool((pair.norm(dim=1) > 0).all()):
                    cosine = torch.nn.functional.cosine_similarity(pair[0], pair[1], dim=0).item()
                    cosines.setdefault(f"{one}|{other}", []).append(cosine)
    return Pull(
        norm={name: sum(values) / len(values) for name, values in norms.items()},
        cosine={name: sum(values) / len(values) for name, values in cosines.items()},
    )


def gradients_of(graded: Graded) -> dict[Dimension, Tensor]:
    """d J_e / d x0_hat of each dimension, `gradient_BLC`, zero for a sample without it; the graph stays."""
    found: dict[Dimension, Tensor] = {}
    for column in range(graded.hinge_BK.shape[1]):
        hinge_B = graded.hinge_BK[:, column]
        [gradient_BLC] = torch.autograd.grad(hinge_B.nansum(), graded.x0_hat_BLC, retain_graph=True)
        for row, own in enumerate(graded.dimensions):
            if column < len(own):
                kept = found.setdefault(own[column], torch.zeros_like(gradient_BLC))
                kept[row] = gradient_BLC[row]
    return found
