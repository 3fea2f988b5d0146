"""What evaluation writes and the report reads: judge's answers, evaluated edits and their scores, one row each."""

from dataclasses import dataclass

from onereward.terms import Dimension, Task

HOLE, CEILING = "hole", "ceiling"
"""Not editors: the unedited hole and the truth as the VAE lets it through, between which scores are normalised."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The judge's two answers about one preference: the pair shown winner first and loser first.

    Log-odds are log P(yes) - log P(no); a judge that is right says a positive number to `winner_first` and a negative
    one to `loser_first`. `variant` is the row of the tables: a way of asking (`query.Variant`), `untuned`, or a name of
    the user's. `outside` is the probability of every word but the two answers, the mean of both orders (None where an
    older version did not write it). Log-odds divided by `temperature` are calibrated. The other fields are the
    preference's own, without its images.
    """

    triplet_id: str
    task: Task
    dimension: Dimension
    variant: str
    winner_first: float
    loser_first: float
    outside: float | None = None
    temperature: float = 1.0
    source: str = ""
    winner_index: int = 0
    loser_index: int = 0
    voter: str = ""
    kind: str = ""
    tie: bool = False

    @property
    def group(self) -> str:
        """What pairs that are not independent of one another share: the source, or else the triplet."""
        return self.source or self.triplet_id

    @property
    def log_odds(self) -> float:
        """Mean log-odds of both orders that the winner is the better image."""
        return (self.winner_first - self.loser_first) / 2

    @property
    def is_right(self) -> bool:
        """Whether the mean of the two log-odds is on the right side; an exact tie is wrong."""
        return self.log_odds > 0

    @property
    def flips(self) -> bool:
        """Whether the answer flips with the order, as it should."""
        return (self.winner_first > 0) != (self.loser_first > 0)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One editor's image of one triplet, pasted back into the source, as PNG bytes.

    `drift` is the mean absolute difference outside the mask before paste-back, in grey levels (0 to 255).
    `seed` keys the noise, which every editor of an evaluation shares.
    """

    triplet_id: str
    task: Task
    prompt: str
    editor: str
    image: bytes
    drift: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """One scorer's number in [0, 1], higher is better, for one edit in one dimension.

    Two editors differ in a triplet where their scores differ by more than `dead_band`.
    """

    triplet_id: str
    task: Task
    dimension: Dimension
    editor: str
    scorer: str
    value: float
    dead_band: float
