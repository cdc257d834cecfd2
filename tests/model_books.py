"""The model's books: accounts, holds and transfers as dictionaries, and one rule a command type.

A rule gives the status that refuses a command, or the answer of one that was applied. Faults are gathered in no order,
and the first in the contract's is given.
"""

from collections import Counter
from datetime import UTC, datetime
from fractions import Fraction
from math import floor
from typing import Any
from uuid import UUID, uuid5

Json = dict[str, Any]

ONCE = datetime(2100, 1, 1, tzinfo=UTC)
"""Second 0 of a story."""
Leg = tuple[str, str, int]

PRECEDENCE = """
    invalid accounts_must_differ ledger_exists ledger_not_found account_exists account_not_found source_not_found
    destination_not_found ledgers_must_match ledgers_must_differ transfer_not_found exceeds_original hold_not_found
    not_a_hold exceeds_hold already_captured already_voided hold_expired account_frozen account_closed
    pending_not_zero balance_not_zero overflow insufficient_funds limit_exceeded
""".split()  # noqa: SIM905  (a list in the contract's words)


class Books:
    """What there is, by name or id, and what may become of it."""

    def __init__(self) -> None:
        self.sequences: dict[str, int] = {}
        self.accounts: dict[str, Json] = {}
        self.holds: dict[str, Json] = {}
        self.transfers: dict[str, Json] = {}
        self.now_s = 0

    def pass_until(self, second: int) -> None:
        """Let time pass; every hold whose deadline has come by then expires."""
        self.now_s = second
        for hold in self.holds.values():
            if hold["state"] == "pending" and hold["expires"] is not None and hold["expires"] <= second:
                self._end(hold, "expired")

    def wear(self, account_id: str, room: int) -> None:
        """Let money come and go until there is only so much room in the fuller of an account's counters."""
        account = self.accounts[account_id]
        counted = [account[side] + account[f"{side}_pending"] for side in ("debits", "credits")]
        for side in ("debits", "credits"):
            account[side] += 2**63 - 1 - room - max(counted)

    def apply(self, command: Json) -> tuple[str, Json]:
        """Give a status, and what else the outcome tells; a refusal changes nothing."""
        if self._would_make(command) & self.transfers.keys():
            return "id_reused", {"detail": "id"}
        answer = getattr(self, "_" + command["type"].replace(".", "_"))(command)
        return (answer, {}) if isinstance(answer, str) else ("applied", answer)

    def _would_make(self, command: Json) -> set[str]:
        """Name the transfers of a command that would make several; of a split one for each part, whatever it moves."""
        parts = len((command.get("sources") or []) + (command.get("destinations") or []))
        several = {"transfers.exchange": 2, "transfers.split": parts}.get(command["type"], 0)
        return {str(uuid5(UUID(command["id"]), str(place))) for place in range(1, several + 1)}

    # -- Ledgers and accounts --

    def _ledgers_open(self, command: Json) -> str | Json:
        if command["ledger"] in self.sequences:
            return "ledger_exists"
        self.sequences[command["ledger"]] = 0
        return {}

    def _accounts_open(self, command: Json) -> str | Json:
        least, most = command.get("min_balance", 0), command.get("max_balance")
        if (least is not None and least > 0) or (most is not None and most < 0):
            return "invalid"
        if command["ledger"] not in self.sequences:
            return "ledger_not_found"
        if command["account_id"] in self.accounts:
            return "account_exists"
        counters = dict.fromkeys(("debits", "credits", "debits_pending", "credits_pending", "version"), 0)
        account = {"ledger": command["ledger"], "state": "open", "least": least, "most": most} | counters
        self.accounts[command["account_id"]] = account
        return self._balances(command["account_id"])

    def _accounts_limit(self, command: Json) -> str | Json:
        least, most = command["min_balance"], command["max_balance"]
        if least is not None and most is not None and least > most:
            return "invalid"
        account = self.accounts.get(command["account_id"])
        if account is None:
            return "account_not_found"
        if account["state"] == "closed":
            return "account_closed"
        if least is not None and _available(account) < least:
            return "insufficient_funds"
        if most is not None and _balance(account) + account["credits_pending"] > most:
            return "limit_exceeded"
        account |= {"least": least, "most": most}
        return self._balances(command["account_id"])

    def _accounts_freeze(self, command: Json) -> str | Json:
        return self._turned(command, "frozen")

    def _accounts_unfreeze(self, command: Json) -> str | Json:
        return self._turned(command, "open")

    def _turned(self, command: Json, state: str) -> str | Json:
        account = self.accounts.get(command["account_id"])
        if account is None:
            return "account_not_found"
        if account["state"] == "closed":
            return "account_closed"
        account["state"] = state
        return self._balances(command["account_id"])

    def _accounts_close(self, command: Json) -> str | Json:
        id, other = command["account_id"], command.get("remainder_to")
        account = self.accounts.get(id)
        if account is None:
            return "accounts_must_differ" if id == other else "account_not_found"
        left = _balance(account)
        faults = {"account_" + account["state"]} - {"account_open"}
        if account["debits_pending"] or account["credits_pending"]:
            faults.add("pending_not_zero")
        if other is None:
            refusal = _first(faults | ({"balance_not_zero"} if left else set()))
            leg: Leg = id, "", 0
        else:
            leg = (id, other, left) if left >= 0 else (other, id, -left)
            faults |= {"overflow"} if abs(left) > 10**15 else set()
            refusal = self._refusal([leg], *faults, zero_moves=False)
        if refusal:
            # Whoever is to take the remainder is its destination, also where there is a debt to pay.
            return "destination_not_found" if refusal == "source_not_found" else refusal
        answer = self._moved(command, *leg) if left else self._balances(id)
        account["state"] = "closed"
        return answer

    # -- Transfers --

    def _transfers_post(self, command: Json) -> str | Json:
        leg = self._leg(command)
        return self._refusal([leg], *_nothing(leg)) or self._moved(command, *leg)

    def _transfers_split(self, command: Json) -> str | Json:
        parts = _parts(command)
        if parts is None:
            return "invalid"
        one = command.get("source_id") or command["destination_id"]
        legs = [(one, id, it) if command.get("destinations") else (id, one, it) for id, it in parts]
        return self._refusal(legs, zero_moves=False) or {"amount": command["amount"]} | self._all_moved(command, legs)

    def _transfers_exchange(self, command: Json) -> str | Json:
        legs = [
            (command["source_id"], command["source_liquidity_id"], command["source_amount"]),
            (command["destination_liquidity_id"], command["destination_id"], command["destination_amount"]),
        ]
        one, other = (self.accounts.get(source_id) for source_id, _, _ in legs)
        same = one is not None and other is not None and one["ledger"] == other["ledger"]
        return self._refusal(legs, *["ledgers_must_differ"] * same) or self._all_moved(command, legs)

    def _transfers_reverse(self, command: Json) -> str | Json:
        original = self.transfers.get(command["transfer_id"])
        if original is None:
            return "transfer_not_found"
        back = sum(it["amount"] for it in self.transfers.values() if it["reverses"] == command["transfer_id"])
        amount = command.get("amount") or original["amount"] - back
        if not amount or amount > original["amount"] - back:
            return "exceeds_original"
        leg = original["destination_id"], original["source_id"], amount
        return self._refusal([leg]) or self._moved(command, *leg, reverses=command["transfer_id"])

    # -- Holds --

    def _transfers_hold(self, command: Json) -> str | Json:
        leg = source_id, destination_id, amount = self._leg(command)
        deadlines = [command[name] for name in ("expires_in_s", "expires_at") if command.get(name)]
        if len(deadlines) == 2:
            return "invalid"
        past = ["hold_expired"] if str(command.get("expires_at")).startswith("0999") else []
        if refusal := self._refusal([leg], *_nothing(leg), *past):
            return refusal
        hold = {"source_id": source_id, "destination_id": destination_id, "amount": 0, "remaining": 0, "captured": 0}
        hold |= {"state": "pending", "expires": self._deadline(command), "kind": command.get("kind")}
        self.holds[command["id"]] = hold
        self._reserve(hold, amount)
        return {"amount": amount} | self._held(hold)

    def _transfers_capture(self, command: Json) -> str | Json:
        if refusal := self._hold_refusal(command, command.get("amount") or 0):
            return refusal
        hold = self.holds[command["hold_id"]]
        sides = hold["source_id"], hold["destination_id"]
        if refusal := self._refusal([(*sides, 0)]):
            return refusal
        amount = command.get("amount") or hold["remaining"]
        self._reserve(hold, -amount)
        hold["captured"] += amount
        if command.get("final", True) or not hold["remaining"]:
            self._end(hold, "captured")
        moved = self._moved(command, *sides, amount, hold_id=command["hold_id"], kind=hold["kind"])
        return {name: moved[name] for name in ("sequence", "amount", "transfers")} | self._held(hold)

    def _transfers_void(self, command: Json) -> str | Json:
        if refusal := self._hold_refusal(command):
            return refusal
        hold = self.holds[command["hold_id"]]
        self._end(hold, "voided")
        return self._held(hold)

    def _transfers_extend(self, command: Json) -> str | Json:
        if not command.get("expires_in_s") and not command.get("amount"):
            return "invalid"
        if refusal := self._hold_refusal(command):
            return refusal
        hold = self.holds[command["hold_id"]]
        more = (command.get("amount") or hold["remaining"]) - hold["remaining"]
        ever = ["overflow"] * (hold["amount"] + more >= 2**63)
        if refusal := self._refusal([(hold["source_id"], hold["destination_id"], max(more, 0))], *ever):
            return refusal
        self._reserve(hold, more)
        hold["expires"] = self._deadline(command) or hold["expires"]
        return self._held(hold)

    def _hold_refusal(self, command: Json, amount: int = 0) -> str:
        hold = self.holds.get(command["hold_id"])
        if hold is None:
            return "not_a_hold" if command["hold_id"] in self.transfers else "hold_not_found"
        if amount > (hold["remaining"] if hold["state"] == "pending" else hold["amount"]):
            return "exceeds_hold"
        ended = {"captured": "already_captured", "voided": "already_voided", "expired": "hold_expired"}
        return ended.get(hold["state"], "")

    def _deadline(self, command: Json) -> int | None:
        if command.get("expires_at"):
            return int((datetime.fromisoformat(command["expires_at"]) - ONCE).total_seconds())
        seconds = command.get("expires_in_s")
        return self.now_s + int(seconds) if seconds else None

    def _reserve(self, hold: Json, more: int) -> None:
        hold["amount"] += max(more, 0)
        hold["remaining"] += more
        self.accounts[hold["source_id"]]["debits_pending"] += more
        self.accounts[hold["destination_id"]]["credits_pending"] += more

    def _end(self, hold: Json, state: str) -> None:
        self._reserve(hold, -hold["remaining"])
        hold["state"] = state

    def _held(self, hold: Json) -> Json:
        state = {"state": hold["state"], "remaining": hold["remaining"], "expires_at": hold["expires"]}
        return {"hold": state} | self._balances(hold["source_id"], hold["destination_id"])

    # -- Money --

    def _leg(self, command: Json) -> Leg:
        source = self.accounts.get(command["source_id"])
        most = _available(source) if source and command.get("up_to") else command["amount"]
        return command["source_id"], command["destination_id"], min(command["amount"], most)

    def _refusal(self, legs: list[Leg], *faults: str, zero_moves: bool = True) -> str:
        """Give what speaks first against all legs, or what the caller found.

        Sides that are frozen or closed do not matter to a leg of 0, unless `zero_moves`.
        """
        found, out, into = set(faults), Counter[str](), Counter[str]()
        for source_id, destination_id, amount in legs:
            out[source_id] += amount
            into[destination_id] += amount
            source, destination = self.accounts.get(source_id), self.accounts.get(destination_id)
            found |= {"accounts_must_differ"} if source_id == destination_id else set()
            found |= {"source_not_found"} if source is None else set()
            found |= {"destination_not_found"} if destination is None else set()
            found |= {"account_" + side["state"] for side in (source, destination) if side and (amount or zero_moves)}
            if source and destination and source["ledger"] != destination["ledger"]:
                found.add("ledgers_must_match")
        for id, account in self.accounts.items():
            balance, reserved, expected = _balance(account), account["debits_pending"], account["credits_pending"]
            if id in out and account["debits"] + reserved + out[id] >= 2**63:
                found.add("overflow")
            if id in into and account["credits"] + expected + into[id] >= 2**63:
                found.add("overflow")
            if id in out and account["least"] is not None and balance - reserved - out[id] < account["least"]:
                found.add("insufficient_funds")
            if id in into and account["most"] is not None and balance + expected + into[id] > account["most"]:
                found.add("limit_exceeded")
        return _first(found - {"account_open"})

    def _move(self, command: Json, id: str, leg: Leg, **about: Any) -> None:
        source_id, destination_id, amount = leg
        source, destination = self.accounts[source_id], self.accounts[destination_id]
        source["debits"] += amount
        destination["credits"] += amount
        for side in (source, destination):
            side["version"] += 1
        self.sequences[source["ledger"]] += 1
        self.transfers[id] = {
            "ledger": source["ledger"],
            "sequence": self.sequences[source["ledger"]],
            "source_id": source_id,
            "destination_id": destination_id,
            "amount": amount,
            "kind": command.get("kind"),
            "hold_id": None,
            "reverses": None,
            "after": self._balances(source_id, destination_id)["balances"],
        } | about

    def _moved(self, command: Json, source_id: str, destination_id: str, amount: int, **about: Any) -> Json:
        """Make the one transfer of a command, and tell of it."""
        self._move(command, command["id"], (source_id, destination_id, amount), **about)
        told = {"sequence": self.transfers[command["id"]]["sequence"], "amount": amount}
        return told | self._transfers(command["id"]) | self._balances(source_id, destination_id)

    def _all_moved(self, command: Json, legs: list[Leg]) -> Json:
        """Make the transfers of a command that makes several, and tell of them."""
        moving = [leg for leg in legs if leg[2]]
        ids = [str(uuid5(UUID(command["id"]), str(place))) for place in range(1, len(moving) + 1)]
        for id, leg in zip(ids, moving, strict=True):
            self._move(command, id, leg)
        return self._transfers(*ids) | self._balances(*(side for leg in moving for side in leg[:2]))

    def _transfers(self, *ids: str) -> Json:
        names = ("source_id", "destination_id", "amount")
        return {"transfers": [{"id": id} | {name: self.transfers[id][name] for name in names} for id in ids]}

    def _balances(self, *ids: str) -> Json:
        accounts = [(id, self.accounts[id]) for id in ids]
        return {
            "balances": {
                id: {"balance": _balance(it), "available": _available(it), "version": it["version"]}
                for id, it in accounts
            }
        }


def _parts(split: Json) -> list[tuple[str, int]] | None:
    """Give each part's account and amount; None where the split contradicts itself."""
    sides = {name for name in ("source_id", "destinations", "sources", "destination_id") if split.get(name) is not None}
    if sides not in ({"source_id", "destinations"}, {"sources", "destination_id"}):
        return None
    parts = split.get("destinations") or split["sources"]
    said = [[name for name in ("amount", "share", "rest") if part.get(name)] for part in parts]
    if any(len(it) != 1 for it in said) or said.count(["rest"]) > 1:
        return None
    exact = [Fraction(part.get("share") or 0) * split["amount"] for part in parts]
    amounts = [floor(share) + (part.get("amount") or 0) for share, part in zip(exact, parts, strict=True)]
    lost = floor(sum(exact)) - sum(map(floor, exact))
    for place in sorted(range(len(parts)), key=lambda place: floor(exact[place]) - exact[place])[:lost]:
        amounts[place] += 1
    # Whether all together are the whole is asked before rounding: a half of 7 and 4 are not 7.
    rest = split["amount"] - sum(exact) - sum(part.get("amount") or 0 for part in parts)
    if rest < 0 or (rest and ["rest"] not in said):
        return None
    if rest:
        amounts[said.index(["rest"])] = split["amount"] - sum(amounts)
    return [(part["account_id"], amount) for part, amount in zip(parts, amounts, strict=True)]


def _nothing(leg: Leg) -> list[str]:
    return ["insufficient_funds"] * (leg[2] < 1)


def _first(faults: set[str]) -> str:
    return min(faults, key=PRECEDENCE.index, default="")


def _balance(account: Json) -> int:
    return int(account["credits"] - account["debits"])


def _available(account: Json) -> int:
    return _balance(account) - int(account["debits_pending"])
