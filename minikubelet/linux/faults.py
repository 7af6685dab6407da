"""Fault points: named steps that a test can make fail, or die at. Without the variable a point is an empty function.

MINIKUBELET_FAULTS holds rules `pattern=effect@chance`, separated by spaces: the pattern is a shell pattern over the
names of points, the effect an errno's name (the step raises that OSError), `KILL` (this process kills itself as a
crash would), `~` with seconds (the step comes up to so much later, and the process does nothing meanwhile) or a FIFO's
path (the step waits there, if it exists, until somebody has opened it for writing and closed it), the chance a number
from 0 to 1, 1 when left out. The first rule that fits a point is asked.

    MINIKUBELET_FAULTS="journal.write=ENOSPC spawn.*=KILL@0.02 *=~0.1@0.3"
"""

from __future__ import annotations

import errno
import os
import time

from minikubelet.linux.lean import Callable, Final, signal, suppress

VARIABLE: Final = "MINIKUBELET_FAULTS"

Rule = tuple[str, str, float]

_resting: list[bool] = []


def parse_rules(text: str) -> list[Rule]:
    """Return the rules as (pattern, effect, chance). Raises ValueError for what is no rule."""
    rules: list[Rule] = []
    for word in text.split():
        pattern, _, rest = word.partition("=")
        effect, _, chance = rest.partition("@")
        if not pattern or not (effect == "KILL" or effect.startswith(("/", "~")) or hasattr(errno, effect)):
            text = f"cannot read fault {word!r}: it is pattern=effect@chance, effect ERRNO, KILL, ~seconds or /fifo"
            raise ValueError(text)
        if effect.startswith("~"):
            float(effect[1:])
        rules.append((pattern, effect, float(chance or 1)))
    return rules


def rest(is_resting: bool) -> None:
    """Strike at no point for a while: what the fork server rehearses is no pod's."""
    _resting[:] = [True] if is_resting else []


def injector(rules: list[Rule], random_number: Callable[[], float] | None = None) -> Callable[[str], None]:
    """Return the function that carries out rules at points.

    Args:
        rules: The first that fits a point's name counts.
        random_number: Gives numbers from 0 to 1; by default the kernel's, so that forked processes differ.
    """
    from fnmatch import fnmatchcase

    draw = random_number or (lambda: int.from_bytes(os.urandom(4), "little") / 2**32)

    def strike(name: str) -> None:
        if _resting:
            return
        for pattern, effect, chance in rules:
            if fnmatchcase(name, pattern):
                if draw() >= chance:
                    return
                if effect == "KILL":
                    os.kill(os.getpid(), signal.SIGKILL)
                    os._exit(137)  # the first process of a PID namespace cannot kill itself
                if effect.startswith("/"):
                    _wait_at(effect)
                    return
                if effect.startswith("~"):
                    time.sleep(float(effect[1:]) * draw())
                    return
                number = getattr(errno, effect)
                raise OSError(number, f"{os.strerror(number)} (injected at {name})")

    return strike


def _wait_at(path: str) -> None:
    with suppress(FileNotFoundError):
        gate = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # until it is opened at its other end
        os.read(gate, 1)  # and that is closed
        os.close(gate)


def _nothing(name: str) -> None:
    """Stand at a point where nothing is injected."""


# Bound once, so that a process without faults pays one empty call a point.
point: Final[Callable[[str], None]] = (
    injector(parse_rules(os.environ[VARIABLE])) if os.environ.get(VARIABLE) else _nothing
)
