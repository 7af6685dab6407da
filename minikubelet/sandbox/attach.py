"""Copies of a container's output for those who are attached to it: what they do not read in time, they miss."""

from __future__ import annotations

import os

from minikubelet.linux.lean import Final

_NOTE: Final = b"\r\n[minikubelet: %d bytes of output left out: they were not read in time]\r\n"


class Tee:
    """One reader. A slow one holds up neither the container nor its log; that it has gone is for the owner to see."""

    __slots__ = (
        "_lost",
        "descriptor",
    )

    def __init__(self, descriptor: int) -> None:
        """Args: descriptor: A pipe; it is owned from now on."""
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._lost = 0

    def write(self, data: bytes) -> None:
        """Copy what there is room for; say how much was left out as soon as there is room again."""
        try:
            if self._lost:
                os.write(self.descriptor, _NOTE % self._lost)  # below PIPE_BUF: all of it or nothing
                self._lost = 0
            self._lost += len(data) - os.write(self.descriptor, data)
        except OSError:
            self._lost += len(data)

    def close(self) -> None:
        """End the copy."""
        os.close(self.descriptor)
