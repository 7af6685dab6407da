"""Who came first: of several documents that ask for one name, the one that goes on.

Pure. A claim is a name (`Pod default/web-n1`) and the file that asks for it. The order in which files came to ask is
remembered, over restarts of the daemon too, so that a second manifest never takes over from the one that runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Name to the files that ask for it; the first one has it.
Claims = Mapping[str, tuple[str, ...]]


def settle(asked: Iterable[tuple[str, str]], before: Claims) -> dict[str, tuple[str, ...]]:
    """Return who asks for each name now, in the order of coming.

    A file that begins to ask for a name at the moment when its holder ceases to takes the holder's place: the document
    went from one file to the other.

    Args:
        asked: Names and files, in the order that decides between files which come at the same moment.
        before: What was returned last.
    """
    files: dict[str, list[str]] = {}
    for name, file in asked:
        known = files.setdefault(name, [])
        if file not in known:
            known.append(file)
    return {name: _order(now, before.get(name, ())) for name, now in files.items()}


def _order(now: list[str], before: tuple[str, ...]) -> tuple[str, ...]:
    staying = [file for file in before if file in now]
    coming = [file for file in now if file not in before]
    if before and before[0] not in now and coming:
        return (coming[0], *staying, *coming[1:])
    return (*staying, *coming)
