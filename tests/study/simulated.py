"""A study whose answers are drawn from known truths, through the real design."""

from random import Random

from onereward.study.criteria import Criterion, Kind, SubTask, criteria_of
from onereward.study.design import design_comparisons, design_ratings
from onereward.study.ratings import AttentionCheck, Collected, Comparison, Rating

SYSTEMS = {"Ours": 0.6, "Ideogram": 0.1, "Flux Fill [pro]": 0.0, "Photoshop": -0.3}
SUBTASKS = (SubTask.FILL, SubTask.TEXT, SubTask.EXTEND_FREE, SubTask.REMOVE)


def collected(*, items: int = 12, answers: int = 4, seed: int = 0) -> Collected:
    """Ratings of four systems and comparisons of two pairs, by honest participants with checks that all pass."""
    draw = Random(seed)
    ratings, comparisons, assigned = [], [], {}
    for subtask in SUBTASKS:
        names = [f"{subtask}-{number}" for number in range(items)]
        of_item = {name: draw.gauss(0, 0.4) for name in names}
        for block in design_ratings(names, list(SYSTEMS), answers=answers, items_a_block=6, seed=seed):
            person, of_person = f"p{block.index}", draw.gauss(0, 0.4)
            assigned[person] = assigned.get(person, 0) + len(block.pages)
            for place, page in enumerate(block.pages):
                for criterion in criteria_of(subtask):
                    liked = SYSTEMS[page.systems[0]] + of_item[page.item] + of_person + draw.gauss(0, 0.7)
                    ratings.append(
                        Rating(
                            participant=person,
                            item=page.item,
                            system=page.systems[0],
                            subtask=subtask,
                            criterion=criterion,
                            value=grade(criterion, liked),
                            seconds=20.0,
                            block=block.index,
                            position=place,
                        )
                    )
        pairs = [("Ours", "Ideogram"), ("Ours", "Flux Fill [pro]")]
        for block in design_comparisons(names, pairs, answers=answers, items_a_block=6, seed=seed):
            person = f"p{block.index}"
            assigned[person] = assigned.get(person, 0) + len(block.pages)
            for place, page in enumerate(block.pages):
                left, right = page.systems
                gain = SYSTEMS[left] - SYSTEMS[right] + draw.gauss(0, 0.8)
                comparisons.append(
                    Comparison(
                        participant=person,
                        item=page.item,
                        left=left,
                        right=right,
                        subtask=subtask,
                        value=(gain > 0.3) - (gain < -0.3),
                        seconds=9.0,
                        block=block.index,
                        position=place,
                    )
                )
    checks = tuple(AttentionCheck(participant=person, passed=True) for person in assigned)
    return Collected(ratings=tuple(ratings), comparisons=tuple(comparisons), checks=checks, assigned=assigned)


def grade(criterion: Criterion, liked: float) -> int:
    """An answer on the criterion's scale."""
    if criterion.question.kind is Kind.BINARY:
        return int(liked > -0.4)
    return 1 + sum(liked > threshold for threshold in (-1.2, -0.5, 0.2, 0.9))
