"""A month of a small marketplace, as messages, with the verdicts they must get: what `equipoise demo` sends.

`python -m bench.marketplace demo` writes one JSONL file a phase and `expected.json`; the same bytes on every run and
every Python. Messages have no order among themselves, so a loader sends a phase, waits until it is settled, and then
sends the next. Within a phase every count and every balance is the same in whatever order its messages arrive: each
refusal is certain, mostly since its account is kept for it, or only *which* commands are refused is open, not how many.

The expectation is simple sums over what the story says of each command; no engine of ours is asked. Not here: what
spoils a message (`bench.malformed`), and `overflow`, which at 10^15 a transfer takes 9,223 transfers to reach.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from random import Random
from uuid import UUID

from bench.malformed import CHANGES, KINDS, MAX_AMOUNT, MEMBER_KINDS, Command, spoiled
from bench.story import (
    Chain,
    Expected,
    Foretold,
    Message,
    balances,
    decided,
    encode,
    foretold,
    single,
    well_formed,
)

SEED = 2026_11
PHASES = ("1-ledgers", "2-accounts", "3-funding", "4-trade", "5-closing")
SINGLES, MEMBERS = 3_000, 17_000  # well-formed commands with a message of their own, and inside batches
CUSTOMERS, MERCHANTS, WEEKS = 600, 45, 4
HOT = ("Bäckerei Sonne", "Café Größenwahn", "Ølhalle Nord")  # these three get half of all orders
KEEPS = 500_00  # what each merchant starts with, so that its fees and early payouts are always covered


class Market:
    """Who is there, and what each of them sends. Holds the dice and the accounts' ids."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.customers = self.ids(CUSTOMERS)
        self.merchants = self.ids(MERCHANTS)
        self.hot = self.ids(len(HOT))
        self.bank, self.platform, self.payroll, self.charity = self.ids(4)
        self.penniless = self.ids(12)  # never get a cent
        self.capped = self.ids(10)  # hold 50.00 at most
        self.overdrawn = self.ids(10)  # owe 100.00 at most
        self.rushing = self.ids(10)  # have money for 4 of the 10 tickets that they ask for at once
        self.travelling = self.ids(20)  # have 500.00, rent a bicycle against a deposit, and pay for what they share
        self.bank_usd, self.visitor_usd, self.merchant_usd = self.ids(3)

    def id(self) -> str:
        return str(UUID(int=self.dice.getrandbits(128), version=4))

    def ids(self, count: int) -> list[str]:
        return [self.id() for _ in range(count)]

    # What can be said

    def ledger(self, ledger: str, currency: str, status: str = "applied") -> Foretold:
        return Foretold(
            {"type": "ledgers.open", "id": self.id(), "ledger": ledger, "currency": currency, "scale": 2}, status
        )

    def account(
        self,
        id_: str,
        class_: str,
        name: str,
        *,
        ledger: str = "marketplace",
        status: str = "applied",
        **limits: object,
    ) -> Foretold:
        command: Command = {"type": "accounts.open", "id": self.id(), "account_id": id_, "ledger": ledger}
        return Foretold(command | limits | {"metadata": {"class": class_, "name": name}}, status)

    def pay(
        self, source: str, destination: str, amount: int, kind: str, status: str = "applied", **fields: object
    ) -> Foretold:
        command: Command = {"type": "transfers.post", "id": self.id(), "source_id": source}
        command |= {"destination_id": destination, "amount": amount, "kind": kind, **fields}
        return Foretold(command, status, amount if status == "applied" else 0)

    def order(self, number: int, customer: str, merchant: str, price: int) -> Chain:
        """A purchase and the platform's 5 % of it: both or neither."""
        return [
            self.pay(customer, merchant, price, "purchase", metadata={"order": number}),
            self.pay(merchant, self.platform, max(1, price // 20), "fee", metadata={"order": number}),
        ]

    def batch(self, members: Iterable[Foretold | Chain]) -> Message:
        commands: list[object] = []
        foretold: list[Foretold] = []
        for member in members:
            chain = member if isinstance(member, list) else [member]
            foretold += chain
            commands.append([told.command for told in chain] if isinstance(member, list) else member.command)
        return Message(encode({"type": "batch", "id": self.id(), "commands": commands}), tuple(foretold), "batch")

    # The month

    def ledgers(self) -> Iterator[Message]:
        euro, dollar = self.ledger("marketplace", "EUR"), self.ledger("marketplace-usd", "USD")
        yield from map(single, (euro, dollar, euro))

    def accounts(self) -> Iterator[Message]:
        """Open everybody's, and the few that cannot be opened."""
        yield single(self.account(self.bank, "bank", "The bank", min_balance=None))
        yield single(self.account(self.platform, "platform", "Platform fees"))
        yield single(self.account(self.payroll, "payroll", "Payroll"))
        yield single(self.account(self.charity, "charity", "Tickets for a good cause"))
        usd = "marketplace-usd"
        yield self.batch(
            [
                self.account(self.bank_usd, "bank", "The bank, in dollars", ledger=usd, min_balance=None),
                self.account(self.visitor_usd, "customer", "A visitor", ledger=usd),
                self.account(self.merchant_usd, "merchant", "Duty Free", ledger=usd),
            ]
        )
        opened = [self.account(id_, "customer", f"Customer {n}") for n, id_ in enumerate(self.customers, 1)]
        opened += [self.account(id_, "merchant", f"Stall {n}") for n, id_ in enumerate(self.merchants, 1)]
        opened += [self.account(id_, "merchant", name) for id_, name in zip(self.hot, HOT, strict=True)]
        opened += [self.account(id_, "penniless", f"Guest {n}") for n, id_ in enumerate(self.penniless, 1)]
        for n, id_ in enumerate(self.capped, 1):
            opened.append(self.account(id_, "capped", f"Gift card {n}", max_balance=50_00))
        for n, id_ in enumerate(self.overdrawn, 1):
            opened.append(self.account(id_, "overdrawn", f"Regular {n}", min_balance=-100_00))
        opened += [self.account(id_, "rushing", f"Fan {n}") for n, id_ in enumerate(self.rushing, 1)]
        opened += [self.account(id_, "travelling", f"Traveller {n}") for n, id_ in enumerate(self.travelling, 1)]
        for at in range(0, len(opened), 100):
            yield self.batch(opened[at : at + 100])
        yield from map(single, opened[:5])  # opened again under the same id: the same verdict
        yield single(self.ledger("marketplace", "EUR", "ledger_exists"))
        yield single(self.ledger("marketplace", "JPY", "ledger_exists"))
        yield single(self.account(self.id(), "customer", "Lost", ledger="flea-market", status="ledger_not_found"))

    def funding(self) -> Iterator[Message]:
        """Pay wages, a batch a week: payroll gets the sum of them first, and list order is decision order."""
        for week in range(1, WEEKS + 1):
            wages = [
                self.pay(self.payroll, customer, self.dice.randrange(120_00, 240_00), "wage", metadata={"week": week})
                for customer in self.customers
            ]
            total = sum(told.moved for told in wages)
            yield self.batch([self.pay(self.bank, self.payroll, total, "payroll", metadata={"week": week}), *wages])
        for customer in self.customers:
            yield single(self.pay(self.bank, customer, self.dice.randrange(5_00, 50_00), "top_up"))
        for merchant in (*self.merchants, *self.hot):
            yield single(self.pay(self.bank, merchant, KEEPS, "start"))
        yield self.batch([self.pay(self.bank, fan, 4 * 25_00, "top_up") for fan in self.rushing])
        yield self.batch([self.pay(self.bank, card, 20_00, "gift") for card in self.capped])
        yield self.batch([self.pay(self.bank, guest, 500_00, "top_up") for guest in self.travelling])
        yield single(self.pay(self.bank_usd, self.visitor_usd, 300_00, "top_up"))
        yield single(self.account(self.payroll, "payroll", "Payroll", status="account_exists"))
        yield single(self.account(self.hot[0], "customer", "An impostor", status="account_exists"))

    def refusals(self) -> Iterator[Foretold]:
        """Each can have one status only, whatever else has happened by then."""
        stall, customer, nobody = self.merchants[0], self.customers[0], self.id()
        for guest in self.penniless:
            yield self.pay(guest, stall, self.dice.randrange(1_00, 20_00), "purchase", "insufficient_funds")
            yield self.pay(guest, self.bank, 10_00, "payout", "insufficient_funds", up_to=True)
        for regular in self.overdrawn:
            yield self.pay(regular, stall, 40_00, "purchase")
            yield self.pay(regular, stall, 100_01, "purchase", "insufficient_funds")
        for card in self.capped:
            yield self.pay(self.bank, card, 15_00, "gift")
            yield self.pay(self.bank, card, 30_01, "gift", "limit_exceeded")
        for status, source, destination in (
            ("accounts_must_differ", customer, customer),
            ("accounts_must_differ", nobody, nobody),  # it comes before source_not_found
            ("source_not_found", nobody, stall),
            ("source_not_found", nobody, self.id()),  # it comes before destination_not_found
            ("destination_not_found", customer, nobody),
            ("destination_not_found", self.penniless[0], nobody),  # it comes before insufficient_funds
            ("ledgers_must_match", customer, self.merchant_usd),
            ("ledgers_must_match", self.visitor_usd, stall),
        ):
            for _ in range(3):
                yield self.pay(source, destination, self.dice.randrange(1_00, 20_00), "purchase", status)
        yield self.account(self.id(), "customer", "Lost", ledger="flea-market", status="ledger_not_found")
        yield self.account(customer, "customer", "A double", status="account_exists")
        yield self.ledger("marketplace-usd", "USD", "ledger_exists")

    def failing_chains(self, earlier: list[Foretold]) -> Iterator[Chain]:
        """One member fails, and the others, fine by themselves, with it."""
        stall, customer = self.hot[1], self.customers[1]
        for guest in self.penniless:
            yield [
                self.pay(guest, stall, 9_00, "purchase", "insufficient_funds"),
                self.pay(stall, self.platform, 45, "fee", "chain_failed"),
            ]
        for card in self.capped:
            yield [
                self.pay(customer, stall, 1_00, "purchase", "chain_failed"),
                self.pay(stall, self.platform, 5, "fee", "chain_failed"),
                self.pay(customer, card, 30_01, "gift", "limit_exceeded"),
            ]
        for kind in MEMBER_KINDS:
            yield [self.pay(customer, stall, 1_00, "purchase", "chain_failed"), self.malformed_member(kind)]
        starts = [told for told in earlier if told.command.get("kind") == "start"]
        for known in starts[:3]:  # a chain of which a part is known fails, and that part keeps its verdict
            reused = Foretold(known.command | {"metadata": {"note": "another"}}, "id_reused")
            for member in (known, reused):
                yield [member, self.pay(customer, stall, 1_00, "purchase", "chain_failed")]

    def rush(self) -> Iterator[Foretold]:
        """Ten tickets each, money for four. Which of the ten are sold is open; that they are four is not."""
        for fan in self.rushing:
            for n in range(10):
                yield self.pay(fan, self.charity, 25_00, "ticket", "applied" if n < 4 else "insufficient_funds")

    def rental(self, guest: str, stall: str, price: int) -> Chain:
        """A deposit of 200.00 is held, the price captured of it, the rest released; one asks for more than is left."""
        held = self.pay(guest, stall, 200_00, "rental").command | {
            "type": "transfers.hold",
            "expires_in_s": 30 * 86_400,
        }
        return [
            Foretold(held),
            self.of_hold("capture", held, price, amount=price, final=False),
            self.of_hold("capture", held, 0, "exceeds_hold", amount=200_00),
            self.of_hold("void", held, 0),
            self.of_hold("void", held, 0, "already_voided"),
        ]

    def of_hold(self, verb: str, held: Command, moved: int, status: str = "applied", **fields: object) -> Foretold:
        legs = ((held["source_id"], held["destination_id"], moved),) if moved else ()
        command: Command = {"type": f"transfers.{verb}", "id": self.id(), "hold_id": held["id"], **fields}
        return Foretold(command, status, legs=legs)

    def refund(self, customer: str, merchant: str, price: int) -> Chain:
        """A purchase of which half is given back, and no more than all of it."""
        bought = self.pay(customer, merchant, price, "purchase")
        sides = bought.command["destination_id"], bought.command["source_id"]

        def back(amount: int, status: str = "applied") -> Foretold:
            command: Command = {"type": "transfers.reverse", "id": self.id(), "transfer_id": bought.command["id"]}
            return Foretold(
                command | {"amount": amount}, status, legs=((*sides, amount),) if status == "applied" else ()
            )

        return [bought, back(price // 2), back(price, "exceeds_original")]

    def shared(self, guest: str, stalls: list[str], each: int) -> Foretold:
        """One payment for all stalls in equal shares, and 5 % of it for the platform."""
        amount = each * 20 * len(stalls)
        parts: list[Command] = [{"account_id": stall, "share": f"19/{20 * len(stalls)}"} for stall in stalls]
        legs = [(guest, stall, each * 19) for stall in stalls] + [(guest, self.platform, amount // 20)]
        command: Command = {"type": "transfers.split", "id": self.id(), "source_id": guest, "amount": amount}
        command |= {"destinations": [*parts, {"account_id": self.platform, "rest": True}], "kind": "shared"}
        return Foretold(command, legs=tuple(legs))

    def travels(self) -> Iterator[Foretold]:
        """In list order, since a capture needs its hold: each of them has the money for all of it."""
        for guest in self.travelling:
            stalls = self.dice.sample(self.hot, 3)
            yield from self.rental(guest, stalls[0], self.dice.randrange(20_00, 90_00))
            yield from self.refund(guest, stalls[1], self.dice.randrange(20_00, 90_00))
            yield self.shared(guest, stalls, self.dice.randrange(1_00, 3_00))

    def reused(self, earlier: list[Foretold]) -> Iterator[Foretold]:
        """Say something else under an id of an earlier phase."""
        changes: tuple[Command, ...] = (
            {"amount": 1},
            {"destination_id": self.platform},
            {"source_id": self.platform},
            {"kind": "bribe"},
            {"up_to": True},
            {"metadata": {"week": 54}},
        )
        transfers = [told.command for told in earlier if told.command["type"] == "transfers.post"]
        for n, command in enumerate(self.dice.sample(transfers, 60)):
            yield Foretold(command | changes[n % len(changes)], "id_reused")
        opening = next(told.command for told in earlier if told.command["type"] == "accounts.open")
        yield Foretold(opening | {"max_balance": 1_000_00}, "id_reused")
        yield Foretold(self.pay(self.bank, self.platform, 1, "bribe").command | {"id": opening["id"]}, "id_reused")

    def malformed(self, kind: str) -> Message:
        healthy = self.pay(self.bank, self.customers[0], 12_50, "top_up").command
        return Message(spoiled(kind, healthy), (Foretold({}, "malformed", cause=kind),), "malformed")

    def malformed_member(self, kind: str) -> Foretold:
        command = CHANGES[kind](self.pay(self.bank, self.customers[0], 12_50, "top_up").command)
        assert isinstance(command, dict)
        return Foretold(command, "malformed", cause=kind)

    def repeated(self) -> Iterator[Message]:
        """Say things twice: in one batch, a chain as a whole, a batch as a whole; and once otherwise, in list order."""
        gift = self.pay(self.bank, self.customers[2], 3_00, "gift")
        otherwise = Foretold(gift.command | {"amount": 3_01}, "id_reused")
        chain = self.order(0, self.customers[2], self.merchants[2], 2_00)
        batch = self.batch([gift, gift, otherwise, chain, chain])
        yield from (batch, batch, self.batch([gift, chain]), self.batch(self.travels()))

    def purchases(self, earlier: list[Foretold]) -> Iterator[tuple[str, str, int]]:
        """Draw who buys where, and for how much, without end, and never beyond what the buyer can pay."""
        purses = balances(earlier)
        while True:
            customer, price = self.dice.choice(self.customers), self.dice.randrange(1_00, 80_00)
            if purses[customer] >= price + 50_00:  # which covers what the repeated and the failing chains ask for
                purses[customer] -= price
                yield customer, self.dice.choice(self.hot if self.dice.random() < 0.5 else self.merchants), price

    def trade(self, earlier: list[Foretold], singles: int, members: int) -> list[Message]:
        """Take orders, and all that goes wrong among them, until there are as many commands as the month shall have."""
        purchases = self.purchases(earlier)
        batches = list(self.repeated())

        alone = [*self.refusals(), *self.reused(earlier)]
        alone += [self.pay(stall, self.bank, 200_00, "payout", up_to=True) for stall in (*self.merchants, *self.hot)]
        alone += [told for told in self.dice.sample(earlier, 50) if told.status == "applied"]  # weeks later, once more
        bought = [self.pay(*next(purchases), "purchase") for _ in range(singles - len(alone) - 50)]
        alone += bought + self.dice.sample(bought, 50)  # at about the same time, once more

        together: list[Foretold | Chain] = [*self.refusals(), *self.rush(), *self.failing_chains(earlier)]
        together += [self.malformed_member(kind) for kind in MEMBER_KINDS]
        together += self.dice.sample(bought, 20)  # alone, and in a batch as well
        left = members - well_formed(batches) - well_formed([self.batch(together)])
        together += [self.order(n, *next(purchases)) for n in range(1, 1 + left // 2)]
        together += [self.pay(*next(purchases), "purchase") for _ in range(left % 2)]

        self.dice.shuffle(together)
        while together:
            size = self.dice.choice((2, 5, 10, 20, 50, 100, 200, 500))  # of these many are chains of two or three
            batches.append(self.batch(together[:size]))
            del together[:size]

        messages = [*map(single, alone), *map(self.malformed, KINDS), *batches]
        self.dice.shuffle(messages)
        return messages

    def closing(self, earlier: list[Foretold]) -> Iterator[Message]:
        """Pay each stall all it has, whatever that is. Both clerks press the button, and one of them is late."""
        left = balances(earlier)
        for stall in self.merchants:
            payout = self.pay(stall, self.bank, MAX_AMOUNT, "payout", up_to=True)
            yield single(Foretold(payout.command, moved=left[stall]))
            yield single(self.pay(stall, self.bank, MAX_AMOUNT, "payout", "insufficient_funds", up_to=True))


def month(seed: int = SEED) -> dict[str, list[Message]]:
    """Tell the month: its messages by phase. The same seed tells the same month."""
    market = Market(seed)
    ledgers, accounts, funding = list(market.ledgers()), list(market.accounts()), list(market.funding())
    earlier = [*ledgers, *accounts, *funding]
    singles = SINGLES - well_formed(m for m in earlier if m.form == "single") - 2 * MERCHANTS  # which closing sends
    members = MEMBERS - well_formed(m for m in earlier if m.form == "batch")
    trade = market.trade(foretold(earlier), singles, members)
    closing = list(market.closing(foretold([*earlier, *trade])))
    return dict(zip(PHASES, (ledgers, accounts, funding, trade, closing), strict=True))


def expected(month: dict[str, list[Message]]) -> Expected:
    """Add up what the story foretells."""
    messages = [message for phase in month.values() for message in phase]
    told = foretold(messages)
    kept = list(decided(told))
    transfers = [leg for one in kept for leg in one.moves]
    accounts = {
        one.command["account_id"]: one.command
        for one in kept
        if one.command["type"] == "accounts.open" and one.status == "applied"
    }
    entries = Counter(side for leg in transfers for side in leg[:2])
    hottest, hottest_transfers = entries.most_common(1)[0]
    balance = balances(told)
    money: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for id_, account in accounts.items():
        money[account["ledger"]][account["metadata"]["class"]] += balance[id_]
    return Expected(
        messages=dict(Counter(message.form for message in messages)),
        commands=well_formed(messages),
        answered=dict(Counter(one.status for one in told).most_common()),
        decided=dict(Counter(one.status for one in kept).most_common()),
        dead_letters=dict(sorted(Counter(one.cause for one in told if one.cause).items())),
        transfers=len(transfers),
        hottest={accounts[hottest]["metadata"]["name"]: hottest_transfers},
        money={ledger: dict(classes) for ledger, classes in money.items()},
        balances={id_: balance[id_] for id_ in accounts},
    )


def write(folder: Path) -> None:
    """Write each phase as a JSONL file, and what is expected of them all."""
    told = month()
    folder.mkdir(parents=True, exist_ok=True)
    for phase, messages in told.items():
        (folder / f"{phase}.jsonl").write_bytes(b"".join(message.line + b"\n" for message in messages))
    text = json.dumps(asdict(expected(told)), ensure_ascii=False, indent=2)
    (folder / "expected.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
