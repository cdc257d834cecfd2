"""Money as people write it: exact, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract import MAX_COUNTER, MAX_SCALE
from models.money import NotExact, minor_units, written

amounts = st.integers(-MAX_COUNTER, MAX_COUNTER)
scales = st.integers(0, MAX_SCALE)


@given(amount=amounts, scale=scales)
def test_what_is_written_is_read_as_the_same_amount(amount: int, scale: int) -> None:
    assert minor_units(written(amount, "EUR", scale), "EUR", scale) == amount


@given(amount=amounts, scale=scales)
def test_what_is_written_is_the_amount_by_the_scale(amount: int, scale: int) -> None:
    number, _, currency = written(amount, "EUR", scale).partition(" ")

    assert currency == "EUR"
    assert int(number.replace(".", "")) == amount
    assert len(number.partition(".")[2]) == scale


@given(text=st.text() | st.from_regex(r"-?[0-9]*[.,]?[0-9]* ?[A-Z]*", fullmatch=True), scale=scales)
def test_what_is_read_is_written_so_or_with_fewer_zeros(text: str, scale: int) -> None:
    try:
        amount = minor_units(text, "EUR", scale)
    except NotExact:
        return

    number, _, _ = text.partition(" ")
    whole, _, fraction = number.partition(".")
    padded = f"{whole}.{fraction.ljust(scale, '0')}" if scale else whole
    assert written(amount, "EUR", scale) in (f"{padded} EUR", f"{padded} EUR".removeprefix("-"))


@pytest.mark.parametrize(
    ("text", "amount"), [("12.50 EUR", 1250), ("12.5 EUR", 1250), ("12 EUR", 1200), ("-0.01 EUR", -1)]
)
def test_decimals_may_be_left_out(text: str, amount: int) -> None:
    assert minor_units(text, "EUR", 2) == amount


@pytest.mark.parametrize(
    "text",
    [
        "12.505 EUR",
        "12.500 EUR",
        "12,50 EUR",
        "1_000 EUR",
        "1e3 EUR",
        "NaN EUR",
        "٣ EUR",
        "12.50",
        "12.50 USD",
        "+1 EUR",
        "01 EUR",
        ".5 EUR",
        "5. EUR",
        " 5 EUR",
        "5 EUR\n",
        "99999999999999999.99 EUR",
        "",
    ],
)
def test_what_is_not_exact_is_refused(text: str) -> None:
    with pytest.raises(NotExact):
        minor_units(text, "EUR", 2)
