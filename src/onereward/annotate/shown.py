"""What browsers are answered: items as one person sees them, progress, the project as an admin sees it."""

from math import isfinite
from statistics import median

from pydantic import BaseModel

from onereward.annotate.bodies import Settings, Vote
from onereward.annotate.overview import AgreementRow, Overview, PersonRow
from onereward.annotate.work import Assignment, Nothing, Progress, State
from onereward.metrics.intervals import Interval
from onereward.people.persons import Role
from onereward.terms import Dimension, Task

TITLES = {
    Dimension.TEXT_ALIGNMENT: "Text alignment",
    Dimension.CONSISTENCY: "Consistency",
    Dimension.STRUCTURE: "Structure",
    Dimension.AESTHETICS: "Aesthetics",
    Dimension.REMOVAL_QUALITY: "Removal quality",
}
QUESTIONS = {
    Dimension.TEXT_ALIGNMENT: "Which shows best what the prompt says, and which worst?",
    Dimension.CONSISTENCY: "Where does what is new fit the rest best in style, light and texture, and where worst?",
    Dimension.STRUCTURE: "Which has the soundest shapes, bodies and things, and which the most broken?",
    Dimension.AESTHETICS: "Which is the most pleasing to look at, and which the least?",
    Dimension.REMOVAL_QUALITY: "Where is it removed best, with nothing new in its place and no trace, and where worst?",
}


class DimensionAsked(BaseModel):
    """A dimension as a person is asked about it."""

    name: Dimension
    title: str
    question: str


class AssignmentShown(BaseModel):
    """An item in somebody's hands; a candidate's place in the list is what votes name."""

    id: str
    task: Task
    prompt: str
    source: str
    mask: str
    width: int
    height: int
    candidates: list[str]
    dimensions: list[DimensionAsked]
    lease_seconds: float
    minimum_seconds: float
    votes: list[Vote] | None
    practice: bool = False

    @staticmethod
    def of(assignment: Assignment) -> "AssignmentShown":
        """With places for candidate indices."""
        place = {index: place for place, index in enumerate(assignment.order)}
        votes = None
        if assignment.choices is not None:
            votes = [
                Vote(
                    dimension=choice.dimension,
                    best=None if choice.best is None else place[choice.best],
                    worst=None if choice.worst is None else place[choice.worst],
                    reason=choice.reason,
                )
                for choice in assignment.choices
            ]
        return AssignmentShown(
            id=assignment.id,
            task=assignment.task,
            prompt=assignment.prompt,
            source=assignment.source,
            mask=assignment.mask,
            width=assignment.size[0],
            height=assignment.size[1],
            candidates=list(assignment.candidates),
            dimensions=[
                DimensionAsked(name=name, title=TITLES[name], question=QUESTIONS[name])
                for name in assignment.dimensions
            ],
            lease_seconds=assignment.lease_seconds,
            minimum_seconds=assignment.minimum_seconds,
            votes=votes,
        )


class NoneLeft(BaseModel):
    """Why there is no next item."""

    none: Nothing


class ProgressShown(BaseModel):
    """How far a person has come."""

    done: int
    remaining: int
    seconds_an_item: float | None

    @staticmethod
    def of(progress: Progress) -> "ProgressShown":
        """The same as JSON."""
        return ProgressShown(**vars(progress))


class Held(BaseModel):
    """What a person holds, oldest first."""

    open: list[AssignmentShown]
    progress: ProgressShown
    settings: Settings


class Lease(BaseModel):
    """For how long an item stays somebody's."""

    lease_seconds: float


class Accepted(BaseModel):
    """What became of an answer."""

    state: State
    progress: ProgressShown


class Link(BaseModel):
    """A person, and their link, which is told this once."""

    id: str
    link: str


class Share(BaseModel):
    """How many of those asked were as they should be."""

    asked: int
    right: int

    @staticmethod
    def of(pair: tuple[int, int]) -> "Share":
        """From (right, asked)."""
        return Share(right=pair[0], asked=pair[1])


class PersonShown(BaseModel):
    """Somebody as an admin sees them: answers to gold that are right, repeats answered as before."""

    id: str
    name: str | None
    role: Role
    withdrawn: bool
    dropped: bool
    done: int
    open: int
    seconds_an_item: float | None
    gold: Share
    repeats: Share
    last_seen: float | None

    @staticmethod
    def of(row: PersonRow) -> "PersonShown":
        """The same as JSON."""
        return PersonShown(
            id=row.person.id,
            name=row.person.name,
            role=row.person.role,
            withdrawn=row.person.withdrawn_at is not None,
            dropped=row.person.dropped,
            done=row.done,
            open=row.held,
            seconds_an_item=row.seconds_an_item,
            gold=Share.of(row.gold),
            repeats=Share.of(row.repeats),
            last_seen=row.person.seen_at,
        )


_FEWEST = 5
"""Items from which on an interval is told: of fewer, all that are drawn again may well be alike."""


class IntervalShown(BaseModel):
    """An estimate with its interval, if it has one of any width."""

    value: float
    low: float | None
    high: float | None

    @staticmethod
    def of(found: Interval | None, items: int) -> "IntervalShown | None":
        """The same as JSON, which has no NaN, on so many items."""
        if found is None or not isfinite(found.value):
            return None
        told = items >= _FEWEST and isfinite(found.low) and isfinite(found.high) and found.low < found.high
        low, high = (found.low, found.high) if told else (None, None)
        return IntervalShown(value=found.value, low=low, high=high)


class AgreementShown(BaseModel):
    """How much people agree in one dimension: Krippendorff's alpha, and the share of pairs of people."""

    dimension: Dimension
    title: str
    items: int
    alpha: IntervalShown | None
    pairwise: IntervalShown | None

    @staticmethod
    def of(row: AgreementRow) -> "AgreementShown":
        """The same as JSON."""
        return AgreementShown(
            dimension=row.dimension,
            title=TITLES[row.dimension],
            items=row.items,
            alpha=IntervalShown.of(row.found.alpha, row.items),
            pairwise=IntervalShown.of(row.found.pairwise, row.items),
        )


class LeaseShown(BaseModel):
    """An item (the id of its triplet) in somebody's hands since `since`."""

    assignment: str
    name: str | None
    item: str
    since: float
    until: float


class ProjectProgress(BaseModel):
    """How far the project is."""

    items: int
    items_done: int
    answers: int
    answers_wanted: int
    items_short: int
    """Items that wait for somebody else than those who take part."""
    seconds_an_item: float | None
    minutes_left: float | None


class Summary(BaseModel):
    """The project as an admin sees it; times in seconds since 1970, `now` by the server's clock."""

    paused: bool
    now: float
    progress: ProjectProgress
    people: list[PersonShown]
    agreement: list[AgreementShown]
    leases: list[LeaseShown]

    @staticmethod
    def of(found: Overview, now: float) -> "Summary":
        """The same as JSON."""
        names = {row.person.id: row.person.name for row in found.people}
        paces = [row.seconds_an_item for row in found.people if row.seconds_an_item is not None]
        return Summary(
            paused=found.paused,
            now=now,
            progress=ProjectProgress(
                items=found.items,
                items_done=found.finished,
                answers=found.done,
                answers_wanted=found.wanted,
                items_short=found.short,
                seconds_an_item=median(paces) if paces else None,
                minutes_left=found.minutes_left,
            ),
            people=[PersonShown.of(row) for row in found.people],
            agreement=[AgreementShown.of(row) for row in found.agreement],
            leases=[
                LeaseShown(
                    assignment=row.assignment,
                    name=names.get(row.person),
                    item=row.triplet_id,
                    since=row.since,
                    until=row.leased_until,
                )
                for row in found.held
            ],
        )
