"""What users can meet is written down, and what is generated is fresh."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from docs.generate import PAGES, stale
from fleet import settings
from fleet.api.routes import ROUTES, Route
from fleet.api.wire import COMMANDS as API_COMMANDS
from fleet.cli.tree import COMMANDS, SHARED, Word
from fleet.core.events import EVENT_TYPES
from fleet.core.lifecycle import PATHS, ROLLOUT_STATES
from fleet.settings.schema import TABLES
from tests.house.tree import ROOT, all_files, name_of, text_of
from tui.keys import KEYS, Key

PAGES_OF_DOCS = tuple(path for path in all_files() if path.suffix == ".md" and path.is_relative_to(ROOT / "docs"))
LINK = re.compile(r"(?<!\!)\[[^\]\n]+\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    path = ROOT / "docs" / name
    assert path.is_file(), f"docs/{name} is missing"
    return text_of(path)


def commands(words: tuple[Word, ...] = COMMANDS, before: str = "anew") -> Iterator[tuple[str, Word]]:
    for word in words:
        if word.run:
            yield f"{before} {word.name}", word
        yield from commands(word.words, f"{before} {word.name}")


@pytest.mark.parametrize("name", PAGES)
def test_what_is_generated_is_fresh(name: str) -> None:
    assert name not in stale(), f"{name} is stale; run: python docs/generate.py --write"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_setting_is_documented(table: type[BaseModel]) -> None:
    text = page("settings.md")
    for name, field in table.model_fields.items():
        assert f"| `{name}` |" in text, f"{table.__name__}.{name} is not in docs/settings.md"
        assert field.description, f"{table.__name__}.{name} has no description"


@pytest.mark.parametrize(("said", "word"), list(commands()), ids=[said for said, _ in commands()])
def test_every_command_is_documented(said: str, word: Word) -> None:
    text = page("cli.md")
    assert re.search(rf"{re.escape(said)}\b", text), f"`{said}` is not in docs/cli.md"
    for option in word.options:
        for name in option.names:
            if name.startswith("--"):
                assert re.search(rf"{re.escape(name)}\b", text), f"{name} of `{said}` is not in docs/cli.md"


def test_every_shared_option_is_documented() -> None:
    text = page("cli.md")
    for option in SHARED:
        assert option.names[0] in text


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_path_of_the_api_is_documented(route: Route) -> None:
    row = f"| {route.method} | `{route.path}` | {route.least} |"
    assert row in page("api.md"), f"docs/api.md lacks {row}"
    for name in route.query:
        assert f"{name}=" in page("api.md"), f"docs/api.md does not tell of {name}= at {route.path}"


@pytest.mark.parametrize("name", API_COMMANDS)
def test_every_command_of_the_api_is_documented(name: str) -> None:
    assert f"`{name}`" in page("api.md"), f"docs/api.md does not tell of the command {name}"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_event_is_documented(name: str) -> None:
    assert f"| `{name}` |" in page("events.md")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.action)
def test_every_key_is_documented(key: Key) -> None:
    assert f"| `{key.action}` |" in page("keys.md")


def test_every_state_is_in_the_diagrams() -> None:
    text = page("lifecycle.md")
    for name in (*ROLLOUT_STATES, *PATHS):
        assert name in text


def test_the_index_leads_to_every_page() -> None:
    index = page("README.md")
    for path in PAGES_OF_DOCS:
        name = str(path.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"]({name})" in index, f"docs/README.md does not link {name}"


def _links(path: Path) -> Iterator[str]:
    for target in LINK.findall(text_of(path)):
        if "://" not in target and not target.startswith("#"):
            yield target


@pytest.mark.parametrize("path", [path for path in all_files() if path.suffix == ".md"], ids=name_of)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in _links(path):
        name, _, section = target.partition("#")
        there = (path.parent / name).resolve()
        assert there.exists(), f"{name_of(path)} links {target}, which does not exist"
        if section and there.suffix == ".md":
            assert section in _anchors(there), f"{name_of(path)} links {target}; there is no such section"


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts make them."""
    heads = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", [path for path in all_files() if path.suffix == ".md"], ids=name_of)
def test_toml_in_pages_is_toml(path: Path, tmp_path: Path) -> None:
    """And a whole fleet file is one that anew takes: a reader will copy it."""
    for number, text in enumerate(FENCE.findall(text_of(path))):
        if "fleet" in tomllib.loads(text):
            fleet = tmp_path / f"{number}.toml"
            fleet.write_text(text)
            settings.load(str(fleet))


WORDS = re.compile(r"`?anew ([a-z][a-z-]*(?: [a-z-]+)?)")


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES_OF_DOCS], ids=name_of)
def test_pages_name_only_commands_that_exist(path: Path) -> None:
    """In code, where a reader would copy it from, and with options that they have."""
    known = {word.name: {inner.name: inner for inner in word.words} for word in COMMANDS}
    whole = {word.name: word for word in COMMANDS}
    shared = {name for option in SHARED for name in option.names}
    for code in re.findall(r"`(anew [a-z][^`\n]*)`|^ *(?:\$ )?((?:\S*/)?anew [a-z].*)$", text_of(path), re.MULTILINE):
        said = re.search(r"\banew ((?:--\w+ \S+ )*)([a-z][a-z-]*)(?: ([a-z-]+))?", code[0] or code[1])
        if said is None or (not code[0] and not _fenced(text_of(path), code[1])):
            continue
        first, second = said.group(2), said.group(3)
        assert first in known, f"{name_of(path)}: `anew {first}` does not exist"
        assert whole[first].run or second is None or second in known[first], f"{name_of(path)}: `anew {first} {second}` does not exist"
        word = known[first].get(second or "", whole[first])
        has = shared | {name for option in word.options for name in option.names}
        typed = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", re.split(r"\s#\s", code[0] or code[1])[0]))
        assert typed <= has, f"{name_of(path)}: `{code[0] or code[1]}`: {', '.join(sorted(typed - has))} does not exist"


def _fenced(text: str, line: str) -> bool:
    """Whether a line stands in a code block: an odd number of fences before it."""
    return text[:text.index(line)].count("```") % 2 == 1
