"""Which triplets of a pool are worth annotating: K-means over image embeddings, the nearest to each centre (Sec. 4.2).

The rule: each task gets its share of the count as in the pool (largest remainders). Within a task of quota q, K-means
makes ceil(q / per_cluster) clusters; then, round by round, every cluster gives its member nearest to the centre that is
left, until the quota is met. So every cluster gives equally many, save where it is too small or the quota ends.
Legend: N triplets, D embedding width.
"""

import warnings
from collections import Counter
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from onereward.seeds import seed_for
from onereward.terms import Task

Embeddings = NDArray[numpy.float32]


def choose_representatives(
    embedding_ND: Embeddings, tasks: Sequence[Task], *, count: int, per_cluster: int, seed: int
) -> list[int]:
    """`count` row numbers, ascending, chosen by the rule above; the same for the same arguments."""
    chosen: list[int] = []
    for task, quota in task_quotas(tasks, count).items():
        rows = numpy.array([row for row, other in enumerate(tasks) if other is task])
        chosen += rows[
            _nearest_to_centres(embedding_ND[rows], quota, per_cluster, seed_for(seed, task, "select"))
        ].tolist()
    return sorted(chosen)


def task_quotas(tasks: Sequence[Task], count: int) -> dict[Task, int]:
    """How many of `count` each task gets: proportional to the pool, largest remainders first, ties in Task's order."""
    sizes = Counter(tasks)
    if not 1 <= count <= len(tasks):
        raise ValueError(f"got --count {count}, expected 1 to {len(tasks)}, the number of triplets in the pool")
    present = [task for task in Task if sizes[task]]
    quotas = {task: count * sizes[task] // len(tasks) for task in present}
    by_remainder = sorted(present, key=lambda task: -(count * sizes[task] % len(tasks)))
    for task in by_remainder[: count - sum(quotas.values())]:
        quotas[task] += 1
    return quotas


def _nearest_to_centres(embedding_ND: Embeddings, quota: int, per_cluster: int, seed: int) -> NDArray[numpy.intp]:
    """`quota` rows, taken round by round: first the nearest of every cluster, then the second nearest, ..."""
    if quota == 0:
        return numpy.array([], dtype=numpy.intp)
    means = KMeans(n_clusters=-(-quota // per_cluster), n_init=1, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct images than clusters: later rounds fill up
        cluster_N = means.fit_predict(embedding_ND)
    distance_N = numpy.linalg.norm(embedding_ND - means.cluster_centers_[cluster_N], axis=1)
    by_distance = numpy.lexsort((numpy.arange(len(cluster_N)), distance_N))
    taken: Counter[int] = Counter()
    round_N = numpy.empty(len(cluster_N), dtype=numpy.intp)
    for row in by_distance:
        round_N[row] = taken[cluster_N[row]]
        taken[cluster_N[row]] += 1
    return numpy.lexsort((numpy.arange(len(cluster_N)), distance_N, round_N))[:quota]
