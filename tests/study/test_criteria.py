import pytest

from onereward.study.criteria import Criterion, Group, Kind, SubTask, cells_of, criteria_of, subtask_of
from onereward.terms import EXTEND_PROMPT, Task

# Table 3: where a number stands and where a dash. Columns in the paper's order.
TABLE_3 = {
    "Image Fill": "1111111-",
    "Image Extend w Prompt": "111111--",
    "Image Extend w/o Prompt": "1-1111--",
    "Object Removal": "1-1-1--1",
}


@pytest.mark.parametrize("group", Group)
def test_cells_are_those_of_table_3(group: Group) -> None:
    marks = "".join("1" if criterion in cells_of(group) else "-" for criterion in Criterion)
    assert marks == TABLE_3[group.value]


@pytest.mark.parametrize(
    ("task", "prompt", "subtask", "group"),
    [
        (Task.FILL, "a tiger", SubTask.FILL, Group.FILL),
        (Task.TEXT, 'a sign "open"', SubTask.TEXT, Group.FILL),
        (Task.EXTEND, "a meadow", SubTask.EXTEND_PROMPT, Group.EXTEND_PROMPT),
        (Task.EXTEND, "", SubTask.EXTEND_FREE, Group.EXTEND_FREE),
        (Task.EXTEND, EXTEND_PROMPT, SubTask.EXTEND_FREE, Group.EXTEND_FREE),
        (Task.REMOVE, "remove", SubTask.REMOVE, Group.REMOVE),
    ],
)
def test_each_item_has_its_rows(task: Task, prompt: str, subtask: SubTask, group: Group) -> None:
    assert subtask_of(task, prompt) is subtask
    assert subtask.group is group


def test_words_are_asked_about_where_words_were_asked_for() -> None:
    asked = [subtask for subtask in SubTask if Criterion.TEXT_RENDERING in criteria_of(subtask)]
    assert asked == [SubTask.TEXT]


def test_scales_are_the_papers() -> None:
    binary = {criterion for criterion in Criterion if criterion.question.kind is Kind.BINARY}
    assert binary == {Criterion.USABILITY, Criterion.TEXT_RENDERING, Criterion.REMOVAL_QUALITY}
    assert all(list(criterion.values) == [0, 1] and criterion.bounds == (0, 1) for criterion in binary)
    assert all(list(criterion.values) == [1, 2, 3, 4, 5] for criterion in set(Criterion) - binary)
