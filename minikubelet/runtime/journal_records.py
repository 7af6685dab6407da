"""What a pod's journal may say: records of the right kinds and within bounds, whatever has happened to the file.

The pause writes its journal and never reads it; the daemon reads it when it starts, and one pod's damaged file must not
keep it from the others. So each record is held against these types, and one that does not fit counts as lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import structlog

log = structlog.get_logger(__name__)

Record = dict[str, Any]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Code = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Ticks = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Seconds = Annotated[float, msgspec.Meta(ge=-1e10, le=1e11)]  # to the year 5138
_Word = Annotated[str, msgspec.Meta(max_length=4096)]


class _Spec(msgspec.Struct):
    netns_path: Annotated[str, msgspec.Meta(pattern=r"^(/run/netns/[^/]+)?$")]


class SandboxRecord(msgspec.Struct):
    """A pause."""

    id: _Word
    attempt: _Count
    created_at: _Seconds
    pid: _Count
    start_ticks: _Ticks
    host_network: bool
    spec: _Spec
    boot_id: _Word = ""


class _Exit(msgspec.Struct):
    exit_code: _Code
    finished_at: _Seconds
    finished_mono: _Seconds
    reason: _Word
    signal: _Code = 0
    message: str = ""
    memory_peak: _Ticks = 0


class _User(msgspec.Struct):
    uid: _Id
    gid: _Id
    groups: list[_Id] = []


class ContainerRecord(msgspec.Struct):
    """An instance of a container."""

    id: _Word
    name: _Word
    restart_count: _Count
    created_at: _Seconds
    created_mono: _Seconds
    state: Literal["created", "running", "exited", "unknown"]
    pid: _Count = 0
    start_ticks: _Ticks = 0
    sandbox_id: _Word = ""
    spec_hash: _Word = ""
    started_at: _Seconds | None = None
    started_mono: _Seconds | None = None
    exit: _Exit | None = None
    user: _User | None = None


Kind = TypeVar("Kind", SandboxRecord, ContainerRecord)


def fitting(records: Mapping[str, Record], kind: type[Kind], path: str) -> dict[str, Record]:
    """Return the records that fit and are filed under their own id; the others are said in the log."""
    found: dict[str, Record] = {}
    for key, record in records.items():
        try:
            value = msgspec.json.decode(msgspec.json.encode(record), type=kind)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            log.warning("record of a journal makes no sense, passed over", path=path, error=str(error))
            continue
        if value.id == key:
            # A container's as it was understood: without what a newer pause may have added, and without NaN.
            known = msgspec.to_builtins(value) if isinstance(value, ContainerRecord) else {}
            found[key] = {**record, **known}
    return found
