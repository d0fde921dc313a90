"""`anew image …`: the catalogue."""

from __future__ import annotations

import os

from fleet.cli.text import local, size
from fleet.core.errors import Invalid

TYPE_CHECKING = False  # as `typing` has it; importing typing is felt at start-up
if TYPE_CHECKING:
    from typing import Any

    from fleet.cli.context import Context


def _split(word: str) -> tuple[str, str]:
    family, slash, version = word.partition("/")
    if not (family and slash and version) or "/" in version:
        raise Invalid("write an image as FAMILY/VERSION, as in web/2", where=word, code="usage")
    return family, version


def list_all(context: Context) -> None:
    """All images."""
    rows = context.client.get("/v1/images")["images"]
    if context.as_json:
        context.data({"images": rows})
        return
    context.rows(("image", "digest", "kind", "built", "size", "packages", "used by", ""), [
        (f"{row['family']}/{row['version']}", row["digest"].removeprefix("sha256:")[:12], row["kind"], local(row["built_at"]),
         size(row["size"]), "-" if row["packages"] is None else row["packages"], ", ".join(row["used_by"]) or "-",
         (_trouble(row), "red")) for row in rows], right=(4, 5))


def _trouble(row: dict[str, Any]) -> str:
    rejected = [f"rejected for {one.get('pool', '?')}: {one.get('reason', '')}" for one in row["rejected"]]
    return " · ".join(([row["problem"]] if row["problem"] else []) + rejected)


def add(context: Context) -> None:
    """Catalogue an image folder. With --on it is one of the other machine."""
    given: str = context.options.path
    if context.on and not os.path.isabs(given):
        raise Invalid("with --on this names a folder on the other machine: write its whole path", where=given, code="usage")
    path = os.path.abspath(given)
    if not context.on and not os.path.isfile(os.path.join(path, "image.toml")):
        raise Invalid("there is no image.toml in this folder", where=path)
    context.answer(context.client.command("image.add", path=path))


def show(context: Context) -> None:
    """One image."""
    row = context.client.get("/v1/images/{}/{}".format(*_split(context.options.image)))
    if context.as_json:
        context.data(row)
        return
    context.say(f"{row['family']}/{row['version']}", "bold")
    for key, value in (("digest", row["digest"]), ("kind", row["kind"]), ("built", local(row["built_at"])),
                       ("size", size(row["size"])), ("source", row["source"]), ("used by", ", ".join(row["used_by"]) or "-")):
        context.say(f"{key:<9} {value}")
    trouble = _trouble(row)
    if trouble:
        context.say(f"! {trouble}", "red")
    for index, file in enumerate(row["files"]):
        context.say(f"{'' if index else 'files':<9} {file['name']}  {size(file['size'])}")
    context.say(f"packages  {'-' if row['packages'] is None else row['packages']}")
    for name, version in row.get("packages_list", {}).items():
        context.say(f"  {name} {version}")


def diff(context: Context) -> None:
    """What changes from one version to another of the same family."""
    family, a = _split(context.options.a)
    word = context.options.b
    other, b = _split(word) if "/" in word else (family, word)
    if other != family:
        raise Invalid("only versions of one family can be compared", where=word, code="usage")
    found = context.client.get(f"/v1/images/{family}/{a}/diff/{b}")
    if context.as_json:
        context.data(found)
        return
    for key, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for name, version in found[key].items():
            moves = " → ".join(version) if isinstance(version, list) else version
            context.say(f"{sign} {name} {moves}", {"+": "green", "-": "red"}.get(sign, ""))
    for key in ("kernel", "cmdline"):
        if found.get(key):
            context.say(f"~ {key}: {' → '.join(found[key])}")
    if not found["packages_known"]:
        context.say("one of the two names no packages, so what changes inside is not known")
    counts = ", ".join(f"{len(found[key])} {key}" for key in ("added", "removed", "changed"))
    context.say(f"{family} {a} → {b}: {counts}; {size(found['size_a'])} → {size(found['size_b'])}")


def verify(context: Context) -> int:
    """Hash every byte again; 1 if an image is not what it was."""
    wanted = context.options.image
    if wanted:
        pairs = [_split(wanted)]
    else:
        pairs = [(row["family"], row["version"]) for row in context.client.get("/v1/images")["images"]]
    rows = [context.client.get(f"/v1/images/{family}/{version}") for family, version in pairs]
    bad = [row for row in rows if row["problem"]]
    if context.as_json:
        context.data({"ok": not bad, "images": [
            {"family": row["family"], "version": row["version"], "digest": row["digest"], "problem": row["problem"]} for row in rows]})
    for row in () if context.as_json else rows:
        context.say(f"{row['family']}/{row['version']}: {row['problem'] or 'ok'}", "red" if row["problem"] else "")
    return 1 if bad else 0


def _pool(context: Context, family: str) -> str:
    """The pool that a rejection is about: --pool, or the only one of this family."""
    if context.options.pool:
        return str(context.options.pool)
    pools = [row["name"] for row in context.client.get("/v1/status")["pools"] if row["image"]["family"] == family]
    if len(pools) == 1:
        return str(pools[0])
    raise Invalid(f"say for which pool with --pool; this family is used by: {', '.join(pools) or 'none'}", where=family, code="usage")


def reject(context: Context) -> None:
    """Never choose it again for a pool."""
    family, version = _split(context.options.image)
    context.answer(context.client.command("image.reject", family=family, version=version, pool=_pool(context, family),
                                          why=context.options.why))


def unreject(context: Context) -> None:
    """It may be chosen again."""
    family, version = _split(context.options.image)
    context.answer(context.client.command("image.unreject", family=family, version=version, pool=_pool(context, family)))
