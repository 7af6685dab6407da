"""The few things that the long-lived processes use of large standard modules, without those modules.

Every object that a pause so much as looks at is copied with its whole page, for Python counts references in the object
itself. What lies between costs memory in every pod: `typing`, `enum` (for `signal`), `collections` (for `contextlib`
and `collections.abc`), `inspect` (for `dataclasses`) and `re` (for `json`) were 4 MB in the fork server, and 0.7 MB
private to each pause. A type checker sees the originals.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import suppress
    from dataclasses import asdict, dataclass, field, replace
    from functools import cache
    from typing import Any, Final, NoReturn
else:
    import _signal as signal  # without the enumerations
    from _collections_abc import Callable, Iterator, Mapping

    Any = Final = NoReturn = object  # for annotations, which are not evaluated

    class suppress:  # noqa: N801
        """As `contextlib.suppress`."""

        __slots__ = ("_kinds",)

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            return None

        def __exit__(self, kind, error, traceback):
            return kind is not None and issubclass(kind, self._kinds)

    _UNSET = object()

    class field:  # noqa: N801
        """As `dataclasses.field`, for `default_factory` alone."""

        __slots__ = ("make",)

        def __init__(self, *, default_factory):
            self.make = default_factory

    class _Values:
        """What `dataclass` makes of a class: named values, compared and shown by value."""

        __slots__ = ()

        def __eq__(self, other):
            if type(other) is not type(self):
                return NotImplemented
            return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

        def __hash__(self):
            return hash(tuple(getattr(self, name) for name in self.__slots__))

        def __repr__(self):
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
            return f"{type(self).__name__}({values})"

    def _initializer(cls, names):
        """Return the method that sets the values: made of source, as only that sets attributes without searching."""
        parameters, steps, known = [], [], {"_UNSET": _UNSET}
        for name in names:
            default = cls.__dict__.get(name, _UNSET)
            if default is _UNSET:
                parameters.append(name)
                steps.append(f"self.{name} = {name}")
            elif type(default) is field:
                known[f"make_{name}"] = default.make
                parameters.append(f"{name}=_UNSET")
                steps.append(f"self.{name} = make_{name}() if {name} is _UNSET else {name}")
            else:
                known[f"default_{name}"] = default
                parameters.append(f"{name}=default_{name}")
                steps.append(f"self.{name} = {name}")
        exec(f"def __init__(self, *, {', '.join(parameters)}):\n " + "\n ".join(steps), known)
        return known["__init__"]

    def dataclass(**options):
        """As `dataclasses.dataclass` with `slots` and `kw_only`; the type checker sees to `frozen`."""

        def make(cls):
            names = tuple(cls.__annotations__)
            body = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
            body |= {"__slots__": names, "__init__": _initializer(cls, names)}
            return type(cls.__name__, (_Values,), body)

        return make

    def asdict(values):
        """As `dataclasses.asdict`, for values and lists of them."""
        if isinstance(values, _Values):
            return {name: asdict(getattr(values, name)) for name in values.__slots__}
        return [asdict(one) for one in values] if isinstance(values, list) else values

    def replace(values, **changes):
        """As `dataclasses.replace`."""
        return type(values)(**{name: getattr(values, name) for name in values.__slots__} | changes)

    def cache(function):
        """As `functools.cache`, for functions without arguments."""
        known = []

        def ask():
            if not known:
                known.append(function())
            return known[0]

        ask.cache_clear = known.clear
        return ask


__all__ = [
    "Any",
    "Callable",
    "Final",
    "Iterator",
    "Mapping",
    "NoReturn",
    "asdict",
    "cache",
    "dataclass",
    "field",
    "replace",
    "signal",
    "suppress",
]
