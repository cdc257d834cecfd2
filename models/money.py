"""Money as people write it, `12.50 EUR`, and as everything here counts it: 1250 minor units. Exact, or refused.

The scale is the ledger's: how many decimals its currency has. Programs exchange integers and never come here; the
command line does, for what it shows. No float and no `Decimal` is involved: both take spellings that nobody means.
"""

import re

from models.contract import MAX_COUNTER

_WRITTEN = re.compile(r"(?P<sign>-?)(?P<whole>0|[1-9][0-9]{0,18})(?:\.(?P<fraction>[0-9]+))? (?P<currency>\S+)")


class NotExact(ValueError):
    """What was written is no amount of this currency; the message says why."""


def written(amount: int, currency: str, scale: int) -> str:
    """Write minor units as a decimal with all of its places: `written(1250, "EUR", 2)` is `12.50 EUR`."""
    digits = str(abs(amount)).rjust(scale + 1, "0")
    whole, fraction = digits[: len(digits) - scale], digits[len(digits) - scale :]
    return f"{'-' if amount < 0 else ''}{whole}{'.' if scale else ''}{fraction} {currency}"


def minor_units(text: str, currency: str, scale: int) -> int:
    """Read `12.50 EUR`, fewer decimals than the scale being zeros. Raises NotExact.

    More decimals than the scale are refused even where they are zeros: in half of the world `12.500` is twelve
    thousand and five hundred.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise NotExact(f"{text!r} is not an amount such as {written(1250, currency, scale)!r}")
    if match["currency"] != currency:
        raise NotExact(f"{text!r}: the currency is {currency}")
    fraction = match["fraction"] or ""
    if len(fraction) > scale:
        raise NotExact(f"{text!r} has more than the {scale} decimals of {currency}")
    amount = int(match["whole"] + fraction.ljust(scale, "0"))
    if amount > MAX_COUNTER:
        raise NotExact(f"{text!r} is more than can be counted")
    return -amount if match["sign"] else amount
