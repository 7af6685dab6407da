"""Keeps what is made from now on close together in memory.

CPython gives out objects up to 512 bytes from pools of 16 KiB, one size a pool, and first where others were freed. What
a process makes next then lies in holes all over its memory, and each hole is a page that a forked process has to copy.
"""

from __future__ import annotations

from minikubelet.linux.lean import Final

_POOL: Final = 16 * 1024
_HEADER: Final = 48  # so an object at this place in its pool is the first of a new one
_LARGEST: Final = 512
_STEP: Final = 16
_BYTES_OVERHEAD: Final = 33
_MOST: Final = 256 * 1024  # given up there, should an interpreter's pools be of another kind


def fill_holes() -> list[object]:
    """Make objects of every size until the next come from fresh pools; holes are filled as long as they are kept."""
    kept: list[object] = []
    for size in range(_STEP, _LARGEST + 1, _STEP):
        for count in range(_MOST // size):
            filler = object() if size == _STEP else float(count) if size < 48 else bytes(size - _BYTES_OVERHEAD)
            if id(filler) % _POOL == _HEADER:
                break
            kept.append(filler)
    return kept
