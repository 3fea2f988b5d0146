"""What holds for a whole project, by name, as JSON in the database."""

import json
from typing import Any

import sqlalchemy as sa

from onereward.people.tables import SETTINGS


def setting(connection: sa.Connection, name: str, default: Any = None) -> Any:
    """The value that was kept under a name."""
    found = connection.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.name == name)).scalar_one_or_none()
    return default if found is None else json.loads(found)


def keep_setting(connection: sa.Connection, name: str, value: Any) -> None:
    """Keep a value under a name, in place of an earlier one."""
    connection.execute(SETTINGS.delete().where(SETTINGS.c.name == name))
    connection.execute(SETTINGS.insert(), {"name": name, "value": json.dumps(value, sort_keys=True)})
