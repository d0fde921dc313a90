"""The table of keys as the user remapped it: `[keys]` of terminal.toml, ACTION = "key" or ["key", "another"].

- A wish that cannot be is refused in a sentence, the action keeps the keys it had, and every other wish stays.
- A wish replaces the letters and signs of an action; enter, esc, arrows and the paging keys go on doing what they do.
- No key does two things on one view: a wish for one that is taken is refused, and both places are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from tui.keynames import FIXED, known, normal, shown
from tui.keys import KEYS, Key, built_in, label

Wishes = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Keymap:
    """`problems`: what of the user's wishes was refused, a sentence each."""

    keys: tuple[Key, ...] = KEYS
    index: Mapping[str, tuple[Key, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def made(cls, options: Mapping[str, str]) -> Keymap:
        """The table with the user's own keys: `keys.ACTION` = names of keys with a blank between them."""
        wishes, problems = _wishes(options)
        keys = _applied(wishes)
        while (clash := _clash(keys, wishes)) is not None:
            loser, words = clash
            problems.append(words)
            del wishes[loser]
            keys = _applied(wishes)
        index: dict[str, tuple[Key, ...]] = {}
        for key in keys:
            for name in map(normal, key.keys):
                index[name] = (*index.get(name, ()), key)
        return cls(keys, index, tuple(problems))

    def find(self, name: str, screen: str) -> Key | None:
        """The key that works on this screen under this name."""
        return next((key for key in self.index.get(normal(name), ()) if key.on(screen)), None)

    def label(self, action: str) -> str:
        """What is printed on the key of an action."""
        return next(label(key) for key in self.keys if key.action == action)

    def elsewhere(self, name: str) -> Key | None:
        """A key that exists, on another screen."""
        found = self.index.get(normal(name), ())
        return found[0] if found else None


def _wishes(options: Mapping[str, str]) -> tuple[Wishes, list[str]]:
    """Wishes by action, in the order of the file, and sentences about those that name no action or no key."""
    actions = {key.action for key in KEYS}
    wishes: Wishes = {}
    problems: list[str] = []
    for option, value in options.items():
        if not option.startswith("keys."):
            continue
        action, names = option[5:], tuple(dict.fromkeys(map(normal, value.split())))
        unknown = next((name for name in names if not known(name)), "")
        if action not in actions:
            near = get_close_matches(action, sorted(actions), 1)
            problems.append(f"{option}: there is no action {action!r}." + (f" Is it {near[0]!r}?" if near else " ? and docs/keys.md name them."))
        elif unknown or not names:
            problems.append(f"{option} = {value!r}: there is no key {unknown!r}; write a letter, a sign, space, f1 to f12 or ctrl+letter.")
        else:
            wishes[action] = names
    return wishes, problems


def _applied(wishes: Wishes) -> tuple[Key, ...]:
    return tuple(
        replace(key, keys=tuple(dict.fromkeys((*wishes[key.action], *(name for name in map(normal, key.keys) if name in FIXED)))),
                label=shown(wishes[key.action][0]))
        if key.action in wishes else key
        for key in KEYS
    )


def _clash(keys: tuple[Key, ...], wishes: Wishes) -> tuple[str, str] | None:
    """(the action whose wish is refused, why), for the first key that would do two things on one view; the later wish gives way."""
    order = {action: place for place, action in enumerate(wishes)}
    for place, one in enumerate(keys):
        for other in keys[place + 1:]:
            if one.action == other.action or not (one.action in order or other.action in order):
                continue
            shared = [name for name in map(normal, one.keys) if name in set(map(normal, other.keys))]
            if not shared or not (views := _views(one, other)):
                continue
            loser, winner = (one, other) if order.get(one.action, -1) > order.get(other.action, -1) else (other, one)
            where = f'keys.{winner.action} = "{shown(shared[0])}"' if winner.action in order else f"{winner.action} (built in)"
            return loser.action, f'keys.{loser.action} = "{shown(shared[0])}" is refused: {where} has that key on {views}. {built_in(loser.action)} still does it.'
    return None


def _views(one: Key, other: Key) -> str:
    """Where both keys work, in a word or three."""
    if "*" in one.words and "*" in other.words:
        return "every view"
    both = [name for name in (*one.words, *other.words) if name != "*" and one.on(name) and other.on(name)]
    return ", ".join(dict.fromkeys(both))
