"""What may enter the journal: JSON, Unicode, known types, bounded sizes. All else is refused with a sentence."""

from __future__ import annotations

import json
import tempfile
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.core.errors import Refused
from fleet.core.events import Draft
from fleet.store.chain import (
    MAX_DATA,
    Row,
    canonical,
    event_of,
    link,
    make_row,
    prepare,
    row_of,
    row_text,
)
from fleet.store.lines import line_of, verify_lines
from tests.store.journal_kit import journal_at, remark

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | UNICODE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(UNICODE, inner, max_size=4),
    max_leaves=15,
)


class Mode(str, Enum):
    READ_ONLY = "read-only"


@given(data=st.dictionaries(UNICODE, JSON, max_size=5), at=st.floats(0, 1e12))
def test_any_json_comes_back_equal_and_its_text_is_canonical(data: dict[str, Any], at: float) -> None:
    ready = prepare(Draft("remark", data={**data, "text": ""}))
    row = make_row(7, at, ready, "ab" * 32)
    event = event_of(row_of(tuple(row), "here"), "here")
    assert event.data == {**data, "text": ""} == ready.value
    fields = {name: getattr(event, name) for name in ("seq", "at", "type", "actor", "pool", "server", "rollout",
                                                      "data", "request")}
    assert row_text(row) == canonical(fields), "the fast way to a row's text differs from the plain one"
    assert row_text(row).isascii()
    assert verify_lines([line_of(row, "ab" * 32) + "\n"]) == ""


@settings(max_examples=25, deadline=None)
@given(st.lists(st.dictionaries(UNICODE, JSON, max_size=3), min_size=1, max_size=5))
async def test_any_json_survives_the_disk(many: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with journal_at(Path(folder)) as journal:
            events = await journal.append([Draft("remark", data={**data, "text": "x"}) for data in many])
        async with journal_at(Path(folder)) as journal:
            assert tuple(journal.replay()) == events
            assert verify_lines(journal.export(), [journal.tip()]) == ""
        assert [event.data for event in events] == [{**data, "text": "x"} for data in many]


def test_what_the_engine_uses_becomes_plain_json() -> None:
    value = {"text": Mode.READ_ONLY, "runs": MappingProxyType({"web-1": ("a", 1, True, None)})}
    assert prepare(Draft("remark", data=value)).value == {"text": "read-only", "runs": {"web-1": ["a", 1, True, None]}}


@pytest.mark.parametrize(("draft", "words"), [
    (Draft("gossip"), "no place for this event: gossip"),
    (Draft("remark"), "lacks text"),
    (Draft("remark", data={"text": "a\ud800b"}), "data.text: holds half a character"),
    (Draft("remark", data={"text": "", "\udfff": 1}), "data: holds half a character"),
    (Draft("remark", data={"text": float("nan")}), "data.text: is not a finite number"),
    (Draft("remark", data={"text": {"a": [0, float("inf")]}}), r"data.text.a\[1\]: is not a finite number"),
    (Draft("remark", data={"text": b"bytes"}), "data.text: is a bytes"),
    (Draft("remark", data={"text": {1: "x"}}), "data.text: has the key 1, and keys must be text"),
    (Draft("remark", data={"text": 10 ** 5000}), "cannot be written as JSON"),
    (Draft("remark", data={"text": "x" * MAX_DATA}), "may take 65536 bytes"),
    (Draft("remark", data={"text": "é" * (MAX_DATA // 6)}), "may take 65536 bytes"),
    (Draft("remark", server="web\x1b]0;", data={"text": ""}), "must be printable"),
    (Draft("remark", request="r" * 513, data={"text": ""}), "at most 512 characters"),
    (Draft("remark", actor="\ud800", data={"text": ""}), "must be printable"),
])
async def test_what_cannot_be_held_is_refused_and_nothing_is_written(tmp_path: Path, draft: Draft, words: str) -> None:
    async with journal_at(tmp_path) as journal:
        with pytest.raises(Refused, match=words):
            await journal.append((remark("good"), draft))
        assert journal.tip() == (0, "")


def test_endless_nesting_is_refused_before_a_parser_meets_it() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(Refused, match="nested more than 32 levels"):
        prepare(Draft("remark", data={"text": deep}))
    deep = []
    for _ in range(30):
        deep = [deep]
    assert prepare(Draft("remark", data={"text": deep})).value == {"text": deep}


def test_the_rollout_that_pins_every_server_has_room_for_thousands() -> None:
    runs = {f"web-{number}": {"path": "forward", "number": 3, "reason": "digest differs"} for number in range(10_000)}
    data = {"kind": "update", "from": "a", "to": "b", "plan_hash": "c", "settings": {}, "runs": runs}
    assert prepare(Draft("rollout-started", data=data)).value["runs"] == runs


def test_the_chain_is_what_the_document_says() -> None:
    row = Row(1, 2.5, "remark", "ann@tty1", "", "", "", '{"text":"caf\\u00e9"}', "r", "")
    text = ('{"actor":"ann@tty1","at":2.5,"data":{"text":"caf\\u00e9"},"pool":"","request":"r","rollout":"","seq":1,'
            '"server":"","type":"remark"}')
    assert row_text(row) == text
    assert json.loads(text)["data"] == {"text": "café"}
    # by sha256sum, not by Python
    assert link("", row) == "58bdd503766849ae24e4eac01e819a072b45ff3d0d246be20c4f30e19c11a2c2"
