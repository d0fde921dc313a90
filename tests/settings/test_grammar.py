"""One grammar for durations, sizes and amounts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.core import grammar
from fleet.core.desired import Amount, Breaker


@pytest.mark.parametrize(("text", "seconds"), [
    ("10s", 10), ("5m", 300), ("2h", 7200), ("7d", 604_800), ("1h30m", 5400), ("500ms", 0.5), ("1d2h3m4s5ms", 93784.005), ("0s", 0)])
def test_durations(text: str, seconds: float) -> None:
    assert grammar.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("value", [
    10, 1.5, True, None, "", "10", "1.5h", "-5s", "+5s", "5 s", "5S", "s", "5m1h", "5x", "٣s", "1h1h", [], {}, "9" * 50 + "s", "5s\n"])
def test_no_durations(value: object) -> None:
    with pytest.raises(grammar.BadValue, match="allowed a duration with its unit"):
        grammar.parse_duration(value)


def test_ages_are_above_zero() -> None:
    assert grammar.parse_age("7d") == 604_800
    with pytest.raises(grammar.BadValue, match="above zero"):
        grammar.parse_age("0s")


@pytest.mark.parametrize(("text", "size"), [("64MiB", 2**26), ("1GiB", 2**30), ("4KiB", 4096), ("2TiB", 2**41)])
def test_sizes(text: str, size: int) -> None:
    assert grammar.parse_size(text) == size


@pytest.mark.parametrize("value", [64, True, None, "64", "64MB", "64M", "1.5GiB", "-1GiB", "1 GiB", "", "GiB", "1gib", []])
def test_no_sizes(value: object) -> None:
    with pytest.raises(grammar.BadValue, match="allowed a size with its unit"):
        grammar.parse_size(value)


@pytest.mark.parametrize(("value", "amount"), [
    (0, Amount(0)), (3, Amount(3)), ("0%", Amount(0, True)), ("25%", Amount(25, True)), ("100%", Amount(100, True))])
def test_amounts(value: object, amount: Amount) -> None:
    assert grammar.parse_amount(value) == amount


@pytest.mark.parametrize("value", [
    True, False, -1, 10_001, 0.5, 1.0, "3", "101%", "025%", "-5%", "+5%", "2.5%", "5 %", "%", "", None, [], "٥%", "5%\n"])
def test_no_amounts(value: object) -> None:
    with pytest.raises(grammar.BadValue, match="or a percent like 25%"):
        grammar.parse_amount(value)


def test_amounts_on_a_command_line_have_no_quotes_to_lose() -> None:
    assert grammar.read_amount("3") == Amount(3) and grammar.read_amount("25%") == Amount(25, True)
    for text in ("-1", "1.5", "true", "", "٣", "10001", "9" * 5000):
        with pytest.raises(grammar.BadValue):
            grammar.read_amount(text)


@given(st.integers(0, 10**11))
def test_a_formatted_duration_reads_back(milliseconds: int) -> None:
    assert grammar.parse_duration(grammar.format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.integers(1, 10**9))
def test_a_formatted_size_reads_back(kibibytes: int) -> None:
    assert grammar.parse_size(grammar.format_size(kibibytes * 1024)) == kibibytes * 1024


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(), st.lists))
def test_any_value_is_described_on_one_short_printable_line(value: object) -> None:
    words = grammar.describe(value)
    assert words and words.isprintable() and len(words) < 500


def test_names() -> None:
    for good in ("a", "web", "web-1", "a" * 63):
        assert grammar.parse_name(good) == good
    for bad in ("", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "wéb", "a\n", 3, None):
        with pytest.raises(grammar.BadValue):
            grammar.parse_name(bad)


@pytest.mark.parametrize(("text", "breaker"), [
    ("20% of at least 5 in 10m", Breaker()), ("100% of at least 1 in 7d", Breaker(100, 1, 604_800.0)), ("off", None)])
def test_breakers(text: str, breaker: Breaker | None) -> None:
    assert grammar.parse_breaker(text) == breaker
    assert grammar.format_breaker(breaker) == text


@pytest.mark.parametrize("value", [
    "", "20%", "0% of at least 5 in 10m", "101% of at least 5 in 10m", "2.5% of at least 5 in 10m", "20% of at least 0 in 10m",
    "20% of at least 10001 in 10m", "20% of at least 5 in 10", "20% of at least 5 in 1s", "20% of at least 5 in 8d", "20 % of at least 5 in 10m",
    "20% of 5 in 10m", "OFF", "20% of at least 5 in 10m\n", "٢% of at least 5 in 10m", 20, True, False, None, []])
def test_no_breakers(value: object) -> None:
    with pytest.raises(grammar.BadValue):
        grammar.parse_breaker(value)


@given(st.integers(1, 100), st.integers(1, 10_000), st.integers(10, 604_800))
def test_a_breaker_is_written_as_it_is_read(percent: int, at_least: int, seconds: int) -> None:
    breaker = Breaker(percent, at_least, float(seconds))
    assert grammar.parse_breaker(grammar.format_breaker(breaker)) == breaker
