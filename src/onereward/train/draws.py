"""What a step of RL works on: drawn from (seed, step, slot) alone, then shared out over processes and micro-batches.

The task is drawn once a global batch, the triplets a slot. A part is what one process grades at once, of one image
size. All processes have as many parts, since a policy that is split over them must take its steps with all of them;
where a part has fewer samples than there are processes, the others grade its first one with weight 0.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from onereward.rl import draw_task
from onereward.rl_terms import Key, RLConfig
from onereward.runtime.batches import batches_of
from onereward.runtime.mesh import Mesh
from onereward.seeds import python_generator
from onereward.store.shards import Folder, fingerprint, read_records
from onereward.terms import Task, Triplet


class TripletSource(Protocol):
    """The sub-datasets D_k of line 4; equal names draw equal triplets."""

    @property
    def name(self) -> str: ...

    def draw(self, task: Task, random: Random) -> Triplet:
        """One triplet of the task."""
        ...

    def all(self) -> Sequence[Triplet] | None:
        """Every triplet that can be drawn, None if there is no end of them."""
        ...


class TripletPool:
    """A folder's triplets in memory, drawn evenly within a task; raises ValueError for a drawn task that has none."""

    def __init__(self, folder: Folder) -> None:
        self._triplets = list(read_records(folder, Triplet))
        self.name = f"triplets {fingerprint(folder)}"
        self._by_task = {task: [triplet for triplet in self._triplets if triplet.task is task] for task in Task}

    def draw(self, task: Task, random: Random) -> Triplet:
        if not self._by_task[task]:
            there = ", ".join(name for name, triplets in self._by_task.items() if triplets) or "none"
            raise ValueError(f"no triplet has task {task}, tasks there: {there}; set its share in task_mix to 0")
        return random.choice(self._by_task[task])

    def all(self) -> Sequence[Triplet]:
        return self._triplets


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process grades at once: triplets of one task and one size, and the keys of their draws (see `Batch`)."""

    triplets: Sequence[Triplet]
    keys: Sequence[Key]
    reference_keys: Sequence[Key]
    abreast: Sequence[Key]
    weight: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One slot of a global batch."""

    triplet: Triplet
    key: Key
    reference_key: Key


def draw_slots(config: RLConfig, seed: int, pool: int, triplets: TripletSource, step: int) -> list[Drawn]:
    """The global batch of a step (counted from 1): lines 3 and 4. `pool` is how many references a triplet has, 0: new.

    With a pool the reference's noise depends on the triplet and its number in the pool alone.
    """
    task = draw_task(config, seed, step)
    slots = []
    for slot in range(config.batch):
        key = (seed, step, slot)
        triplet = triplets.draw(task, python_generator(*key, "triplet"))
        member = python_generator(*key, "reference").randrange(pool) if pool else None
        reference_key = key if member is None else (seed, triplet.id, member)
        slots.append(Drawn(triplet=triplet, key=key, reference_key=reference_key))
    return slots


def parts_of(
    slots: Sequence[Drawn], micro_batch: int, mesh: Mesh, size_of: Callable[[Triplet], Hashable]
) -> Iterator[Part]:
    """This process's parts of a global batch, as many as the other processes have; gradients add up to the batch's."""
    for together in batches_of(slots, micro_batch * mesh.size, lambda slot: size_of(slot.triplet)):
        own = [together[place] for place in mesh.share(len(together))]
        shown = own or together[:1]
        yield Part(
            triplets=[slot.triplet for slot in shown],
            keys=[slot.key for slot in shown],
            reference_keys=[slot.reference_key for slot in shown],
            abreast=[slot.key for slot in together],
            weight=1.0 if own else 0.0,
        )
