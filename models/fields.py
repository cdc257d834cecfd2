"""The types of commands' fields: what each may hold on the wire. Validated strictly; nothing is converted but time."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field, StringConstraints

from models import contract

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_ID = re.compile(contract.ID_PATTERN)


def is_id(text: str) -> bool:
    """Whether a text is an id as the contract spells one; anything else cannot be anybody's."""
    return _ID.fullmatch(text) is not None


def _from_rfc_3339(value: object) -> object:
    """Read a timestamp from its text; numbers and other types are left for pydantic to refuse."""
    if not isinstance(value, str):
        return value
    if not _RFC_3339.fullmatch(value):
        raise ValueError("not a timestamp with a time zone, such as 2026-11-23T12:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such moment: {error}") from error


Id = Annotated[str, StringConstraints(pattern=contract.ID_PATTERN)]
LedgerName = Annotated[str, StringConstraints(pattern=contract.LEDGER_PATTERN)]
Currency = Annotated[str, StringConstraints(pattern=contract.CURRENCY_PATTERN)]
Scale = Annotated[int, Field(ge=0, le=contract.MAX_SCALE)]
Amount = Annotated[int, Field(ge=1, le=contract.MAX_AMOUNT)]
Limit = Annotated[int, Field(ge=-contract.MAX_COUNTER, le=contract.MAX_COUNTER)]
Seconds = Annotated[int, Field(ge=1, le=contract.MAX_EXPIRES_IN_S)]
Share = Annotated[str, StringConstraints(pattern=contract.SHARE_PATTERN)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=contract.MAX_KIND_CHARACTERS)]
Metadata = dict[str, Any]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_from_rfc_3339)]
