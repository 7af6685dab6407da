"""The TCP probe: well when the connection opens.

Source: kubernetes pkg/probe/tcp (v1.36).
"""

from __future__ import annotations

import asyncio

from minikubelet.runtime.probes.dial import DialError, dial, timed_out
from minikubelet.runtime.probes.result import ProbeReply, Verdict


async def probe_tcp(host: str, port: int, *, timeout_s: float) -> ProbeReply:
    """Connect and close."""
    try:
        async with asyncio.timeout(timeout_s):
            connection = await dial(host, port)
    except TimeoutError:
        return ProbeReply(Verdict.FAILURE, timed_out(host, port))
    except DialError as error:
        return ProbeReply(Verdict.FAILURE, str(error))
    connection.close()
    return ProbeReply(Verdict.SUCCESS)
