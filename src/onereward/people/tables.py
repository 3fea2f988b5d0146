"""Every table of the annotation app and the user study, on one page; the migrations make them.

Times are seconds since 1970. Ids that a browser sees are random; what a person could be known by is in `personal`.
"""

import sqlalchemy as sa

METADATA = sa.MetaData()

_ID = sa.String(22)
_SHA256 = sa.String(64)
_UUID = sa.String(36)

VOTES = sa.Table(
    "votes",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", _UUID, nullable=False, unique=True),
    sa.Column("candidates", _SHA256, nullable=False, index=True),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("triplet_id", sa.String(255), nullable=False),
    sa.Column("dimension", sa.String(32), nullable=False),
    sa.Column("best", sa.Integer),
    sa.Column("worst", sa.Integer),
    sa.Column("voter", sa.String(255), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False, server_default="work"),  # gold, repeat, late: never exported
    sa.Column("reason", sa.String(16)),  # of a skip
    sa.Column("claim", _ID, index=True),  # by which a person gave it
    sa.Column("submission", _UUID, index=True),  # the client's request that gave it, with those of other dimensions
    sa.Column("seconds", sa.Double),  # that the person took
)
"""Answers of voters, one row each, never changed."""

PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("made_at", sa.Double, nullable=False),
    sa.Column("seen_at", sa.Double),
    sa.Column("withdrawn_at", sa.Double),
    sa.Column("dropped", sa.Boolean, nullable=False, server_default=sa.false()),  # what they answered is not counted
    sa.Column("link", _SHA256, unique=True),  # SHA-256 of the token in their link
    sa.Column("settings", sa.Text, nullable=False, server_default="{}"),
)
PERSONAL = sa.Table(
    "personal",
    METADATA,
    sa.Column("person", _ID, sa.ForeignKey("people.id"), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("salt", sa.String(32), nullable=False),
)
"""What is erased when a person asks for it; events hold salted hashes of it."""

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("token", _SHA256, primary_key=True),  # SHA-256 of the cookie's
    sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False, index=True),
    sa.Column("expires_at", sa.Double, nullable=False),
)
EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("person", _ID),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", _SHA256, nullable=False),
    sa.Column("hash", _SHA256, nullable=False),
)
"""What happened, each row with the hash of the one before; never changed."""

HEAD = sa.Table(
    "head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("hash", _SHA256, nullable=False),
)
"""The last event, in one row that whoever appends locks."""

SETTINGS = sa.Table(
    "settings",
    METADATA,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
PICTURES = sa.Table(
    "pictures",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("item", sa.Integer, nullable=False, index=True),  # whose picture it is
    sa.Column("content", _SHA256, nullable=False),  # SHA-256 of the file
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
)
ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("candidates", _SHA256, nullable=False),
    sa.Column("triplet_id", sa.String(255), nullable=False),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("source", _ID, sa.ForeignKey("pictures.id"), nullable=False),
    sa.Column("mask", _ID, sa.ForeignKey("pictures.id"), nullable=False),
    sa.Column("options", sa.Text, nullable=False),  # JSON: [[candidate index, picture], ...]
    sa.Column("gold", sa.Text),  # JSON: {dimension: [best, worst]}, known answers
    sa.Column("open", sa.Boolean, nullable=False),  # whether one of its slots wants an answer
    sa.UniqueConstraint("candidates", "triplet_id"),
)
"""A triplet with its candidates, to vote on."""

sa.Index("open_items", ITEMS.c.id, sqlite_where=sa.text("open = 1"), postgresql_where=sa.text("open"))
sa.Index("gold_items", ITEMS.c.id, sqlite_where=ITEMS.c.gold.is_not(None), postgresql_where=ITEMS.c.gold.is_not(None))

SLOTS = sa.Table(
    "slots",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("item", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
    sa.Column("replicate", sa.Integer, nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False),  # all but those of work are one person's from the beginning
    sa.Column("person", _ID, sa.ForeignKey("people.id")),
    sa.Column("claim", _ID, unique=True),  # the present one
    sa.Column("leased_until", sa.Double),
    sa.Column("done_at", sa.Double),
    sa.UniqueConstraint("item", "person", "purpose"),
)
"""One answer that an item wants: free, held by one person under a lease, or done."""

sa.Index(
    "open_slots",
    SLOTS.c.item,
    SLOTS.c.replicate,
    sqlite_where=SLOTS.c.done_at.is_(None),
    postgresql_where=SLOTS.c.done_at.is_(None),
)
sa.Index("slots_of_person", SLOTS.c.person, SLOTS.c.done_at)

CLAIMS = sa.Table(
    "claims",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("request", _UUID, nullable=False, unique=True),
    sa.Column("item", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
    sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("shown", sa.Text, nullable=False),  # JSON: candidate indices in the order that this person sees
    sa.Column("at", sa.Double, nullable=False),
)
"""Who was given what and how it was shown: an assignment, as the browser calls it."""

sa.Index("claims_of_person", CLAIMS.c.person, CLAIMS.c.item)

STUDY_ITEMS = sa.Table(
    "study_items",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("triplet_id", sa.String(255), nullable=False, unique=True),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("source", _ID, sa.ForeignKey("pictures.id"), nullable=False),
    sa.Column("mask", _ID, sa.ForeignKey("pictures.id"), nullable=False),
    sa.Column("practice", sa.Boolean, nullable=False),  # shown before what counts, and never counted
)
"""A triplet of a user study."""

STUDY_OUTPUTS = sa.Table(
    "study_outputs",
    METADATA,
    sa.Column("picture", _ID, sa.ForeignKey("pictures.id"), primary_key=True),
    sa.Column("item", sa.Integer, sa.ForeignKey("study_items.id"), nullable=False),
    sa.Column("system", sa.String(255)),  # none: the hole left grey, for attention checks
    sa.UniqueConstraint("item", "system"),
)
"""What a system made of an item: the only place that says whose a picture is."""

STUDY_BLOCKS = sa.Table(
    "study_blocks",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("pages", sa.Text, nullable=False),  # JSON: [[item, system], [item, left system, right system], ...]
    sa.Column("person", _ID, sa.ForeignKey("people.id"), unique=True),
    sa.Column("claimed_at", sa.Double),
    sa.Column("finished_at", sa.Double),
)
"""What one person answers, in that order: outputs to rate or pairs to compare; nobody's yet, or theirs for good."""

STUDY_PARTICIPANTS = sa.Table(
    "study_participants",
    METADATA,
    sa.Column("person", _ID, sa.ForeignKey("people.id"), primary_key=True),
    sa.Column("consented_at", sa.Double, nullable=False),
    sa.Column("instructed_at", sa.Double),
)
STUDY_TRIALS = sa.Table(
    "study_trials",
    METADATA,
    sa.Column("id", _ID, primary_key=True),
    sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("purpose", sa.String(16), nullable=False),  # practice, work, check
    sa.Column("item", sa.Integer, sa.ForeignKey("study_items.id"), nullable=False),
    sa.Column("shown", sa.Text, nullable=False),  # JSON: pictures from left to right
    sa.Column("asked", sa.Integer),  # the answer that an attention check asks for in words
    sa.Column("answered_at", sa.Double),
    sa.UniqueConstraint("person", "position"),
)
"""A page as one person sees it, in their order."""

STUDY_ANSWERS = sa.Table(
    "study_answers",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("submission", _UUID, nullable=False, index=True),  # the client's request that gave it
    sa.Column("trial", _ID, sa.ForeignKey("study_trials.id"), nullable=False),
    sa.Column("criterion", sa.String(32), nullable=False),
    sa.Column("value", sa.Integer, nullable=False),  # of a comparison: 1 the left is better, 0 the same, -1 the right
    sa.Column("seconds", sa.Double, nullable=False),  # that the person took for the whole trial
    sa.UniqueConstraint("trial", "criterion"),
)
"""Answers of participants, never changed."""


def refuse_long(column: "sa.Column[str]", text: str) -> None:
    """Raise ValueError for what the column has no room for, which not every database says."""
    assert isinstance(column.type, sa.String) and column.type.length is not None
    if len(text) > column.type.length:
        raise ValueError(
            f"got a {column.name} of {len(text)} characters, expected {column.type.length} at most: {text[:40]}..."
        )
