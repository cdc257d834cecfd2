"""Bring the schema to the newest version, and say which version that is."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def migrate(database_url: str, version: str = "head") -> str:
    """Apply every migration up to a version that is missing, in one transaction; give the newest version there is."""
    config = _config(database_url)
    command.upgrade(config, version)
    return newest_version()


def newest_version() -> str:
    """Name the version that this code needs."""
    head = ScriptDirectory.from_config(_config("")).get_current_head()
    assert head is not None
    return head


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["database_url"] = database_url
    return config
