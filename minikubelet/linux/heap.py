"""Keeps what is used together close together in memory.

A forked process copies the whole page of every object that it so much as looks at, for Python counts references in the
object itself. Modules lie in memory as they were loaded, what is used among what is not. So what has turned out to be
used is made anew, side by side, and what is made next comes from fresh pages.
"""

from __future__ import annotations

import gc
import sys

from minikubelet.linux.lean import Any, Final

_POOL: Final = 16 * 1024
_HEADER: Final = 48  # so an object at this place in its pool is the first of a new one
_LARGEST: Final = 512
_STEP: Final = 16
_BYTES_OVERHEAD: Final = 33
_MOST: Final = 256 * 1024  # given up there, should an interpreter's pools be of another kind

_Function: Final[Any] = type(lambda: None)


def fill_holes() -> list[object]:
    """Make objects of every size until the next come from fresh pools; holes are filled as long as they are kept.

    CPython gives out objects up to 512 bytes from pools of 16 KiB, one size a pool, and first where others were freed.
    """
    kept: list[object] = []
    for size in range(_STEP, _LARGEST + 1, _STEP):
        for count in range(_MOST // size):
            filler = object() if size == _STEP else float(count) if size < 48 else bytes(size - _BYTES_OVERHEAD)
            if id(filler) % _POOL == _HEADER:
                break
            kept.append(filler)
    return kept


class Used:
    """Remembers which functions are called while it is entered."""

    def __init__(self) -> None:
        self._codes: dict[Any, None] = {}

    def __enter__(self) -> None:
        sys.setprofile(self._note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: Any, event: str, argument: object) -> None:
        if event == "call":
            self._codes[frame.f_code] = None

    def make_anew(self, package: str) -> list[object]:
        """Make these functions of a package anew, with code and constants, and put them in the place of the old.

        Returns:
            What there was before and what fills holes, to be kept: in its place would lie what is made next.
        """
        gc.collect()
        kept = fill_holes()
        places = _functions_of(package)
        anew: dict[Any, Any] = {}
        for code in self._codes:
            copy = code.replace(co_consts=tuple([_fresh(one) for one in code.co_consts]))
            for owner, name, function in places.get(code, ()):
                anew[function] = anew.get(function) or _copy(function, copy)
                setattr(owner, name, anew[function])
        return [*kept, places]


def _functions_of(package: str) -> dict[Any, list[tuple[Any, str, Any]]]:
    """Return where the modules of a package and their classes have functions, by code: owner, name and function."""
    modules = [one for name, one in sys.modules.items() if name.startswith(package)]
    classes = [one for module in modules for one in vars(module).values() if isinstance(one, type)]
    owners: list[Any] = [*modules, *dict.fromkeys(one for one in classes if one.__module__.startswith(package))]
    found: dict[Any, list[tuple[Any, str, Any]]] = {}
    for owner in owners:
        for name, one in vars(owner).items():
            if type(one) is _Function:
                found.setdefault(one.__code__, []).append((owner, name, one))
    return found


def _copy(function: Any, code: Any) -> Any:
    made: Any = _Function(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    made.__module__ = function.__module__
    made.__qualname__ = function.__qualname__
    made.__dict__.update(function.__dict__)
    return made


def _fresh(value: Any) -> Any:
    """Return a new object of the same value, where the interpreter has not one for all."""
    kind = type(value)
    if kind is str and value.isascii():
        return value.encode().decode()
    if kind is bytes:
        return bytes(bytearray(value))
    if kind is int or kind is float:
        return value * 1
    if kind is tuple:
        return tuple([_fresh(one) for one in value])
    return value
