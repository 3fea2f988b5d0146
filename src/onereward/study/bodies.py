"""What goes over the wire: what a request may say, as the types that check it, and what it is answered."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from onereward.study.analysis import BETTER
from onereward.study.collecting import Place, Stage, State, Submission, Trial
from onereward.study.criteria import Criterion, Kind, SubTask
from onereward.web.bodies import NO_WORDS, Body, Id, Seconds, Uuid


def _no_number(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


_LAST_STRETCH = 5  # pages
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
_Value = Annotated[int, Field(ge=-1, le=5), NO_WORDS]
_Flag = Annotated[bool, BeforeValidator(_no_number)]


class Answer(Body):
    """An answer to all that is asked about a trial."""

    uuid: Uuid
    trial: Id
    seconds: Seconds
    """How long it was looked at."""
    values: Annotated[
        dict[_Name, _Value],
        # Of a name's pattern alone, the schema would let others be anything.
        Field(min_length=1, max_length=len(Criterion), json_schema_extra={"additionalProperties": False}),
    ]

    def submission(self) -> Submission:
        """The same as the room knows it."""
        return Submission(uuid=UUID(self.uuid), trial=self.trial, seconds=self.seconds, values=self.values)


class Withdrawal(Body):
    """How somebody leaves."""

    drop: _Flag = False
    """Their answers are not used."""


class Joined(BaseModel):
    """A new participant's own link, which is told this once."""

    link: str


class Checked(BaseModel):
    """Of who comes by the open link: whether somebody is at the study in this browser already."""

    at_it: bool


class OptionShown(BaseModel):
    """An answer that can be chosen."""

    value: int
    label: str


class QuestionShown(BaseModel):
    """What is asked, with the answers in their order; `ends` say what the least and the most of a scale mean."""

    name: str
    title: str
    question: str
    options: list[OptionShown]
    ends: tuple[str, str] | None


class TrialShown(BaseModel):
    """A page as a participant sees it."""

    id: str
    practice: bool
    task: str
    instruction: str
    prompt: str | None
    note: str | None
    source: str
    mask: str
    width: int
    height: int
    pictures: list[str]
    questions: list[QuestionShown]

    @staticmethod
    def of(trial: Trial) -> "TrialShown":
        """Nothing that tells whose the pictures are, or what the page is for."""
        title, instruction = _WANTED[trial.subtask]
        return TrialShown(
            id=trial.id,
            practice=trial.practice,
            task=title,
            instruction=instruction,
            prompt=trial.prompt if trial.subtask in _PROMPTED else None,
            note=None if trial.asked is None else _note(trial.asked),
            source=trial.source,
            mask=trial.mask,
            width=trial.size[0],
            height=trial.size[1],
            pictures=list(trial.shown),
            questions=[_asked(criterion) for criterion in trial.criteria] or [_COMPARED],
        )


class PlaceShown(BaseModel):
    """Where somebody is in the study."""

    stage: Stage
    trials: list[TrialShown]
    done: int
    total: int
    breaks: list[int]
    """Answers after each of which a break is offered."""

    @staticmethod
    def of(place: Place, break_every: int) -> "PlaceShown":
        """The same as JSON."""
        trials = [TrialShown.of(trial) for trial in place.trials]
        breaks = breaks_of(place.total, break_every) if place.stage is Stage.WORK else []
        return PlaceShown(stage=place.stage, trials=trials, done=place.done, total=place.total, breaks=breaks)


def breaks_of(pages: int, break_every: int) -> list[int]:
    """After how many of the pages a break is offered: none at the last stretch."""
    return list(range(break_every, pages - _LAST_STRETCH + 1, break_every)) if break_every else []


class Accepted(BaseModel):
    """What became of an answer, and what comes next."""

    state: State
    place: PlaceShown


_WANTED = {
    SubTask.FILL: ("Fill", "The marked part was to show:"),
    SubTask.TEXT: ("Text", "The marked part was to show, with its words:"),
    SubTask.EXTEND_PROMPT: ("Extend", "The picture was to go on beyond its edges, and show:"),
    SubTask.EXTEND_FREE: ("Extend", "The picture was to go on beyond its edges as if it had always been larger."),
    SubTask.REMOVE: ("Remove", "What is marked was to be gone."),
}
_PROMPTED = (SubTask.FILL, SubTask.TEXT, SubTask.EXTEND_PROMPT)

_COMPARED = QuestionShown(
    name=BETTER,
    title="Which one is better?",
    question="Taken as a whole: how well the changed part does what was wanted, and suits the rest.",
    options=[
        OptionShown(value=1, label="Left is better"),
        OptionShown(value=0, label="About the same"),
        OptionShown(value=-1, label="Right is better"),
    ],
    ends=None,
)


def _asked(criterion: Criterion) -> QuestionShown:
    question = criterion.question
    graded = question.kind is Kind.GRADED
    # A scale goes up from its low end; yes comes before no.
    options = [OptionShown(value=value, label=str(value)) for value in criterion.values]
    answers = [OptionShown(value=1, label=question.high), OptionShown(value=0, label=question.low)]
    return QuestionShown(
        name=criterion,
        title=question.title,
        question=question.text,
        options=options if graded else answers,
        ends=(question.low, question.high) if graded else None,
    )


def _note(asked: int) -> str:
    return (
        f"This page only checks that somebody is reading. Whatever you see, choose {asked} wherever you can choose "
        f"from 1 to 5, and “{'Yes' if asked > 3 else 'No'}” everywhere else."
    )
