"""The answers of voters, one row each, never changed.

Revision ID: v0001
"""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "votes",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("uuid", sa.String(36), nullable=False, unique=True),
        sa.Column("candidates", sa.String(64), nullable=False, index=True),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("triplet_id", sa.String(255), nullable=False),
        sa.Column("dimension", sa.String(32), nullable=False),
        sa.Column("best", sa.Integer),
        sa.Column("worst", sa.Integer),
        sa.Column("voter", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER votes_refuse_{change.lower()} BEFORE {change} ON votes "
                "BEGIN SELECT RAISE(ABORT, 'votes are append-only: a correction is a new row'); END"
            )


def downgrade() -> None:
    op.drop_table("votes")
