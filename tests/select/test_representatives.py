from collections import Counter

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onereward.select.representatives import choose_representatives, task_quotas
from onereward.terms import Task

FILL, EXTEND, REMOVE = Task.FILL, Task.EXTEND, Task.REMOVE


def test_quotas_worked_by_hand() -> None:
    tasks = [FILL] * 5 + [EXTEND] * 3 + [REMOVE] * 2
    # 4 of 10: 2.0, 1.2, 0.8 -> 2, 1, 0 and the largest remainder (.8) takes the fourth.
    assert task_quotas(tasks, 4) == {FILL: 2, EXTEND: 1, REMOVE: 1}
    # 1 of 10: .5, .3, .2 -> fill.
    assert task_quotas(tasks, 1) == {FILL: 1, EXTEND: 0, REMOVE: 0}


@given(st.lists(st.sampled_from(Task), min_size=1, max_size=40), st.data())
def test_quotas_add_up_and_stay_within_one_of_the_share(tasks: list[Task], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(tasks)))
    quotas = task_quotas(tasks, count)
    assert sum(quotas.values()) == count
    for task, quota in quotas.items():
        assert abs(quota - count * tasks.count(task) / len(tasks)) < 1 and quota <= tasks.count(task)


def test_one_of_each_cluster_and_the_nearest_to_its_centre() -> None:
    centres = numpy.array([[0, 0], [10, 0], [0, 10]], dtype=numpy.float32)
    offsets = numpy.array([[1, 1], [-1, -1], [1, -1], [-1, 1], [0.1, 0]], dtype=numpy.float32)
    embedding = (centres[:, None] + offsets).reshape(-1, 2)
    assert choose_representatives(embedding, [FILL] * 15, count=3, per_cluster=1, seed=0) == [4, 9, 14]
    pairs = choose_representatives(embedding, [FILL] * 15, count=6, per_cluster=2, seed=0)
    assert Counter(row // 5 for row in pairs) == {0: 2, 1: 2, 2: 2}
    assert {4, 9, 14} < set(pairs)


@given(st.integers(0, 3), st.integers(1, 4), st.data())
@settings(max_examples=30, deadline=None)
def test_the_count_is_met_without_repeats_also_among_equal_images(
    seed: int, per_cluster: int, data: st.DataObject
) -> None:
    tasks = data.draw(st.lists(st.sampled_from([FILL, REMOVE]), min_size=1, max_size=20))
    values = data.draw(st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=len(tasks), max_size=len(tasks)))
    count = data.draw(st.integers(1, len(tasks)))
    embedding = numpy.array(values, dtype=numpy.float32)[:, None]
    chosen = choose_representatives(embedding, tasks, count=count, per_cluster=per_cluster, seed=seed)
    assert chosen == sorted(set(chosen)) and len(chosen) == count
    assert Counter(tasks[row] for row in chosen) == {t: q for t, q in task_quotas(tasks, count).items() if q}
    assert chosen == choose_representatives(embedding, tasks, count=count, per_cluster=per_cluster, seed=seed)


def test_more_than_the_pool_holds_is_an_error() -> None:
    with pytest.raises(ValueError, match="got --count 3, expected 1 to 2"):
        task_quotas([FILL, FILL], 3)
