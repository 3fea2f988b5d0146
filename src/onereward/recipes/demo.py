"""The whole loop on the toy models: how much of what `onereward demo` does.

`full_demo` is for two cores: candidates 200 s, judge 240 s, RL 200 s (both algorithms at once), evaluation 120 s.
`quick_demo` is the same code in about a minute; its figures say only that it runs.
"""

from dataclasses import dataclass, fields

from onereward.toy.scenes import Split


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Counts of scenes, triplets and steps; every stage's own settings come from its recipe.

    Scenes: the judge learns from the first `pool` training scenes, RL repaints training scenes from `rl_first` on. The
    test split's first `test_preferences` scenes are the judge's held-out pairs; editors are compared from `test_first`
    on.
    """

    pool: int  # training scenes offered to `select`
    selected: int  # triplets kept of them
    candidates: int  # N
    test_preferences: int
    test_first: int
    test_per_task: int  # held-out triplets a task
    judge_steps: int
    rl_steps: int
    rl_first: int
    rl_probe: int  # validation scenes of the win rate against the frozen start
    seed: int
    budget_candidates: float  # seconds on two cores
    budget_judge: float
    budget_rl: float
    budget_evaluation: float

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name != "seed" and getattr(self, field.name) <= 0:
                raise ValueError(f"got {field.name} {getattr(self, field.name)}, expected a number above 0")
        if self.test_first < self.test_preferences or self.rl_first < self.pool:
            raise ValueError("scenes overlap: expected test_first >= test_preferences and rl_first >= pool")


def full_demo() -> DemoConfig:
    """What the README's figures come from."""
    return DemoConfig(
        pool=1500,
        selected=950,
        candidates=4,
        test_preferences=864,
        test_first=10_000,
        test_per_task=300,
        judge_steps=600,
        rl_steps=100,
        rl_first=100_000,
        rl_probe=48,
        seed=0,
        budget_candidates=200,
        budget_judge=240,
        budget_rl=200,
        budget_evaluation=120,
    )


def quick_demo() -> DemoConfig:
    """A smoke form of the same."""
    return DemoConfig(
        pool=48,
        selected=32,
        candidates=3,
        test_preferences=32,
        test_first=10_000,
        test_per_task=4,
        judge_steps=4,
        rl_steps=2,
        rl_first=100_000,
        rl_probe=6,
        seed=0,
        budget_candidates=20,
        budget_judge=20,
        budget_rl=20,
        budget_evaluation=20,
    )


EVALUATED_SPLIT = Split.TEST_4
"""Moves to the next range, with a dated line in docs/log.md, when settings change after figures were seen."""
