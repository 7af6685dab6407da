"""The TCP probe: well when the connection opens.

Source: kubernetes pkg/probe/tcp (v1.36).
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from minikubelet.runtime.probes.dial import DialError, Dialing, begin_dial, dial, timed_out
from minikubelet.runtime.probes.result import ProbeReply, Verdict, Wait

_OPEN: Final = ProbeReply(Verdict.SUCCESS)


def ask_tcp(host: str, port: int, timeout_s: float) -> ProbeReply | Wait:
    """Connect and close. Nearly every probe of a pod on this node is answered before this returns."""
    dialing = None
    try:
        dialing = begin_dial(host, port)
        if dialing is None or not dialing.is_open():
            return partial(_wait, dialing, host, port, timeout_s)
    except DialError as error:
        return ProbeReply(Verdict.FAILURE, str(error))
    except OSError:
        return partial(_wait, None, host, port, timeout_s)  # no descriptors left: who waits tries again, and tells
    dialing.socket.close()
    return _OPEN


async def _wait(dialing: Dialing | None, host: str, port: int, timeout_s: float) -> ProbeReply:
    try:
        async with asyncio.timeout(timeout_s):
            connection = await (dialing.wait() if dialing else dial(host, port))
    except TimeoutError:
        return ProbeReply(Verdict.FAILURE, timed_out(host, port))
    except DialError as error:
        return ProbeReply(Verdict.FAILURE, str(error))
    connection.close()
    return _OPEN
