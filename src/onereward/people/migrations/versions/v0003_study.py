"""The user study: items, outputs of systems, blocks of them, what each participant is shown and answers.

Revision ID: v0003
"""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision = "v0002"

_ID, _UUID = sa.String(22), sa.String(36)


def upgrade() -> None:
    op.create_table(
        "study_items",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("triplet_id", sa.String(255), nullable=False, unique=True),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("source", _ID, sa.ForeignKey("pictures.id"), nullable=False),
        sa.Column("mask", _ID, sa.ForeignKey("pictures.id"), nullable=False),
        sa.Column("practice", sa.Boolean, nullable=False),
    )
    op.create_table(
        "study_outputs",
        sa.Column("picture", _ID, sa.ForeignKey("pictures.id"), primary_key=True),
        sa.Column("item", sa.Integer, sa.ForeignKey("study_items.id"), nullable=False),
        sa.Column("system", sa.String(255)),
        sa.UniqueConstraint("item", "system"),
    )
    op.create_table(
        "study_blocks",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("pages", sa.Text, nullable=False),
        sa.Column("person", _ID, sa.ForeignKey("people.id"), unique=True),
        sa.Column("claimed_at", sa.Double),
        sa.Column("finished_at", sa.Double),
    )
    op.create_table(
        "study_participants",
        sa.Column("person", _ID, sa.ForeignKey("people.id"), primary_key=True),
        sa.Column("consented_at", sa.Double, nullable=False),
        sa.Column("instructed_at", sa.Double),
    )
    op.create_table(
        "study_trials",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("person", _ID, sa.ForeignKey("people.id"), nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("item", sa.Integer, sa.ForeignKey("study_items.id"), nullable=False),
        sa.Column("shown", sa.Text, nullable=False),
        sa.Column("asked", sa.Integer),
        sa.Column("answered_at", sa.Double),
        sa.UniqueConstraint("person", "position"),
    )
    op.create_table(
        "study_answers",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("submission", _UUID, nullable=False),
        sa.Column("trial", _ID, sa.ForeignKey("study_trials.id"), nullable=False),
        sa.Column("criterion", sa.String(32), nullable=False),
        sa.Column("value", sa.Integer, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.UniqueConstraint("trial", "criterion"),
    )
    op.create_index("ix_study_answers_submission", "study_answers", ["submission"])
    _refuse_changes("study_answers")


def _refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuse_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} are append-only: a correction is a new row'); END"
            )
        return
    op.execute(
        f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
