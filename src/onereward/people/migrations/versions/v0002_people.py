"""Persons, their sessions, the chain of events, and the items that annotators work on.

Revision ID: v0002
"""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"

_ID, _SHA256, _UUID = sa.String(22), sa.String(64), sa.String(36)
_FIRST = "0" * 64


def upgrade() -> None:
    for column in (
        sa.Column("purpose", sa.String(16), nullable=False, server_default="work"),
        sa.Column("reason", sa.String(16)),
        sa.Column("claim", _ID),
        sa.Column("submission", _UUID),
        sa.Column("seconds", sa.Double),
    ):
        op.add_column("votes", column)
    op.create_index("ix_votes_claim", "votes", ["claim"])
    op.create_index("ix_votes_submission", "votes", ["submission"])
    op.create_table(
        "people",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double),
        sa.Column("withdrawn_at", sa.Double),
        sa.Column("dropped", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("link", _SHA256, unique=True),
        sa.Column("settings", sa.Text, nullable=False, server_default="{}"),
    )
    op.create_table(
        "personal",
        sa.Column("person", _ID, sa.ForeignKey("people.id"), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("salt", sa.String(32), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":  # whose statistics hold samples of what is in a table
        op.execute("ALTER TABLE personal ALTER name SET STATISTICS 0, ALTER salt SET STATISTICS 0")
    op.create_table(
        "sessions",
        sa.Column("token", _SHA256, primary_key=True),
        sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False, index=True),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("person", _ID),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", _SHA256, nullable=False),
        sa.Column("hash", _SHA256, nullable=False),
    )
    head = op.create_table(
        "head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("hash", _SHA256, nullable=False),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": _FIRST}])
    op.create_table(
        "settings",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "pictures",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("item", sa.Integer, nullable=False, index=True),
        sa.Column("content", _SHA256, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("candidates", _SHA256, nullable=False),
        sa.Column("triplet_id", sa.String(255), nullable=False),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("source", _ID, sa.ForeignKey("pictures.id"), nullable=False),
        sa.Column("mask", _ID, sa.ForeignKey("pictures.id"), nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("gold", sa.Text),
        sa.Column("open", sa.Boolean, nullable=False),
        sa.UniqueConstraint("candidates", "triplet_id"),
    )
    op.create_index("open_items", "items", ["id"], sqlite_where=sa.text("open = 1"), postgresql_where=sa.text("open"))
    has_gold = sa.text("gold IS NOT NULL")
    op.create_index("gold_items", "items", ["id"], sqlite_where=has_gold, postgresql_where=has_gold)
    op.create_table(
        "slots",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("item", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("replicate", sa.Integer, nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("person", _ID, sa.ForeignKey("people.id")),
        sa.Column("claim", _ID, unique=True),
        sa.Column("leased_until", sa.Double),
        sa.Column("done_at", sa.Double),
        sa.UniqueConstraint("item", "person", "purpose"),
    )
    still_open = sa.text("done_at IS NULL")
    op.create_index("open_slots", "slots", ["item", "replicate"], sqlite_where=still_open, postgresql_where=still_open)
    op.create_index("slots_of_person", "slots", ["person", "done_at"])
    op.create_table(
        "claims",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("request", _UUID, nullable=False, unique=True),
        sa.Column("item", sa.Integer, sa.ForeignKey("items.id"), nullable=False),
        sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_index("claims_of_person", "claims", ["person", "item"])
    _refuse_changes("events")


def _refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are append-only: a correction is a new row'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% are append-only: a correction is a new row', TG_TABLE_NAME; END $$"
    )
    for name in (table, "votes"):
        op.execute(
            f"CREATE TRIGGER {name}_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
