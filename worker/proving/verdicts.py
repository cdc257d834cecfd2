"""What a proof says: whether the books are sound, and the first bad row of each kind where they are not."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum

Progress = Callable[[str, int, int], None]
"""Called now and then with what is being proved, how many of them were, and how many there are."""


class Kind(StrEnum):
    """What can be wrong; of each kind the first bad row is named."""

    SEQUENCE_GAP = "sequence_gap"
    LEDGER_SEQUENCE = "ledger_sequence"
    TIME_WENT_BACK = "time_went_back"
    UNKNOWN_LEDGER = "unknown_ledger"
    UNKNOWN_ACCOUNT = "unknown_account"
    VERSION_GAP = "version_gap"
    BALANCE_BROKEN = "balance_broken"
    ACCOUNT_VERSION = "account_version"
    ACCOUNT_COUNTERS = "account_counters"
    LIMIT_BROKEN = "limit_broken"
    LEDGER_NOT_ZERO = "ledger_not_zero"
    TRANSFER_MISSING = "transfer_missing"
    COMMAND_MISSING = "command_missing"
    ACCOUNT_PENDING = "account_pending"
    HOLD_CAPTURED = "hold_captured"
    REVERSED_TOO_MUCH = "reversed_too_much"
    TIME_DIFFERS = "time_differs"
    TRANSFER_SEAL = "transfer_seal"
    COMMAND_SEAL = "command_seal"
    COMMAND_GAP = "command_gap"
    LEDGER_COMMANDS = "ledger_commands"
    LEDGER_HEAD = "ledger_head"
    ACCOUNT_DIFFERS = "account_differs"
    HOLD_DIFFERS = "hold_differs"
    CHANGE_DIFFERS = "change_differs"
    CHECKPOINT_DIFFERS = "checkpoint_differs"
    CHECKPOINT_UNSIGNED = "checkpoint_unsigned"
    TAIL_CUT = "tail_cut"


@dataclass(frozen=True, slots=True)
class Fault:
    """The first bad row of a kind, and what is wrong with it."""

    kind: Kind
    row: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.row}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the books are sound, how much was read for it, and how long that took."""

    sound: bool
    transfers: int
    accounts: int
    ledgers: int
    commands: int
    seconds: float
    faults: list[Fault]
    checkpoints: int = 0
    """The checkpoints that the books were held against. Without one, a past that was written anew is not noticed."""

    def as_json(self) -> dict[str, object]:
        """Give it for programs (docs/cli.md)."""
        return asdict(self)


@dataclass(slots=True)
class Findings:
    """What a proof has come to: how much was read, and the faults."""

    transfers: int = 0
    accounts: int = 0
    ledgers: int = 0
    commands: int = 0
    checkpoints: int = 0
    faults: dict[Kind, Fault] = field(default_factory=dict)

    def fault(self, kind: Kind, row: str, detail: str) -> None:
        """Note a fault, unless one of its kind was found before."""
        self.faults.setdefault(kind, Fault(kind, row, detail))

    def verdict(self, seconds: float) -> Verdict:
        """Say what it has come to, after so long."""
        return Verdict(
            sound=not self.faults,
            transfers=self.transfers,
            accounts=self.accounts,
            ledgers=self.ledgers,
            commands=self.commands,
            seconds=round(seconds, 3),
            faults=list(self.faults.values()),
            checkpoints=self.checkpoints,
        )
