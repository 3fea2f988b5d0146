"""The text put to the judge: q = Phi(s_k, e, P), Eq. 1 with the template of Fig. 3."""

from enum import StrEnum

from onereward.terms import DIMENSIONS, Dimension, Task


class Variant(StrEnum):
    """What a query tells the judge: the rows of Table 1, and Table 4's one fixed query for every pair."""

    PAIR = "pair"
    TASK = "task"
    TASK_DIMENSION = "task_dimension"
    FIXED_QUERY = "fixed_query"


TASK_PHRASE: dict[Task, str] = {
    Task.FILL: "image fill",
    Task.EXTEND: "image extend",
    Task.REMOVE: "object removal",
    Task.TEXT: "image fill",
}

DIMENSION_PHRASE: dict[Dimension, str] = {
    Dimension.TEXT_ALIGNMENT: "Text Alignment",
    Dimension.CONSISTENCY: "Consistency",
    Dimension.STRUCTURE: "Structure",
    Dimension.AESTHETICS: "Aesthetics",
    Dimension.REMOVAL_QUALITY: "Removal Quality",
}

_SUBJECT = "Both of these two images are generated results{of_task}."
_QUESTION = (
    " Please evaluate the difference of the two images. Is the **first** image better than the **second** one?"
    ' Please answer "yes" or "no".'
)
_CRITERIA = " The evaluation criteria is {dimension}."
_PROMPT = " The prompt of the two image is {prompt}."


def build_query(task: Task, dimension: Dimension, prompt: str, variant: Variant = Variant.TASK_DIMENSION) -> str:
    """The query of one comparison, word for word as in Fig. 3 (Eq. 1).

    The prompt is told only for text alignment, and only by a variant that names the dimension, "ensuring that judgments
    reflect intrinsic visual quality without semantic bias". Raises `ValueError` for a dimension the task does not have.
    """
    if dimension not in DIMENSIONS[task]:
        raise ValueError(
            f"task {task.value!r} is not judged by {dimension.value!r}; its dimensions: {', '.join(DIMENSIONS[task])}"
        )
    if variant is Variant.FIXED_QUERY:
        return build_query(Task.REMOVE, Dimension.REMOVAL_QUALITY, prompt)
    of_task = "" if variant is Variant.PAIR else f" of {TASK_PHRASE[task]}"
    query = _SUBJECT.format(of_task=of_task) + _QUESTION
    if variant is Variant.TASK_DIMENSION:
        query += _CRITERIA.format(dimension=DIMENSION_PHRASE[dimension])
        if dimension is Dimension.TEXT_ALIGNMENT:
            query += _PROMPT.format(prompt=prompt)
    return query
