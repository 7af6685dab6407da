"""`minikubelet timeline POD`: logs, events, probe results and restarts in the order of time."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

from minikubelet.cli import client, facts, lookup, terminal
from minikubelet.cli.arguments import add_namespace, duration, namespace_of
from minikubelet.cli.findings import mebibytes, seconds
from minikubelet.cli.log_files import Follower, LogLine, container_directory, read_log, restart_counts

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet timeline web --since=10m
  minikubelet timeline web -f
"""

# Events and ends are looked at again this often while following; lines of logs ring the bell.
_LOOK_S: Final = 0.5
_TERMINAL: Final = ("Succeeded", "Failed")
_OF_PROBES: Final = ("Unhealthy", "ProbeWarning")
_MOST_OF_A_SECOND: Final = 10_000
_LATE: Final = 0.999999  # of a second: behind everything in it
_DRAIN_S: Final = 0.005  # what a container printed last is read and stamped within this time after its end


class Entry(NamedTuple):
    """One thing that happened. `order` parts what came in the same second: starts, then what they did, then ends."""

    time: float
    order: int
    what: str  # "event", "Warning", "start", "end", "probe", "Probe" (failed), "out", "err"
    container: str
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    add_namespace(parser, all_too=True)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the pod has ended")
    parser.add_argument("--since", type=duration, metavar="DURATION", help="only what is younger: 5s, 2m, 3h")
    parser.add_argument("--no-logs", action="store_true", help="leave out what containers printed")


def execute(options: argparse.Namespace) -> int:
    """Print the timeline."""
    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    since = time.time() - options.since if options.since is not None else 0.0
    known = facts.gather(options, pod)
    names = lookup.container_names(pod)
    width = max((len(name) for name in names), default=0)
    followers: dict[str, Follower] = {}
    streams: list[Iterator[Entry]] = [iter(sorted(records(known), key=lambda one: one.time))]
    if not options.no_logs:
        for name in names:
            directory = container_directory(options.log_dir, pod, name)
            followers[name] = Follower(directory, (restart_counts(directory) or [0])[-1], at_end=False)
            streams.append(_log(name, directory, followers[name], ends=not options.follow))
    for one in in_order(merge(*streams, key=lambda one: one.time), pod):
        if one.time >= since:
            print(render(one, width))
    if options.follow:
        _follow(options, pod, followers, {_identity(one) for one in records(known)}, width)
    return 0


def records(known: facts.Facts) -> list[Entry]:
    """Return what is recorded apart from logs, each thing once."""
    return list(dict.fromkeys([*of_events(known), *of_states(known), *of_probes(known.probes)]))


def _log(container: str, directory: str, follower: Follower, *, ends: bool) -> Iterator[Entry]:
    """Yield a container's lines of all instances, none of them kept; with `ends` nothing is read behind them."""
    for count in restart_counts(directory)[:-1]:
        yield from (of_line(container, line) for line in read_log(f"{directory}/{count}.log"))
    yield from (of_line(container, line) for line in follower.history())
    if ends:
        yield from (of_line(container, line) for line in follower.rest())


def _new_lines(container: str, follower: Follower) -> Iterator[Entry]:
    for line in follower.pump():
        yield of_line(container, line)


def in_order(entries: Iterable[Entry], pod: Json) -> Iterator[Entry]:
    """Yield entries that come second by second as they happened; holds one second's at once, and not without bound.

    Of what is recorded by whole seconds, a pod's containers come in their order, and what is behind an init container
    that ended in the same second comes after its end.
    """
    ranks = {name: rank for rank, name in enumerate(lookup.container_names(pod))}
    inits = {one["name"] for one in pod["spec"].get("initContainers") or ()}
    for _, group in groupby(entries, key=lambda one: int(one.time)):
        while batch := list(islice(group, _MOST_OF_A_SECOND)):
            yield from _in_order_within_a_second(batch, ranks, inits)


def _in_order_within_a_second(entries: list[Entry], ranks: Mapping[str, int], inits: Set[str]) -> list[Entry]:
    ends = {ranks[one.container]: one.time for one in entries if one.what == "end" and one.container in inits}

    def key(one: Entry) -> tuple[float, int, int, float]:
        rank = ranks.get(one.container, -1)
        earliest = max((ended for before, ended in ends.items() if before < rank), default=0.0)
        return max(one.time, earliest), rank, one.order, one.time

    return sorted(entries, key=key)


def of_events(known: facts.Facts) -> Iterator[Entry]:
    """Yield events, one that recurs at its first and its last time, without failures that probes' histories have."""
    begun = {(str(one["container"]), str(one["kind"])): _history_begin(one) for one in known.probes}
    for one in known.events:
        kind = "event" if one.get("type") != "Warning" else "Warning"
        container = one.get("involvedObject", {}).get("fieldPath", "").partition("{")[2].rstrip("}")
        message = f"{one['reason']}: {one['message']}"
        first, last = one.get("firstTimestamp"), one.get("lastTimestamp") or one.get("eventTime")
        count = int(one.get("count") or 1)
        found = [Entry(seconds(last), 2, kind, container, message)]
        if count > 1 and first:
            found.insert(0, found[0]._replace(time=seconds(first)))
            found[1] = found[1]._replace(text=f"{message} (x{count} by now)")
        probe = str(one["message"]).partition(" probe ")[0].lower() if one["reason"] in _OF_PROBES else ""
        told_from = begun.get((container, probe), math.inf)
        yield from (entry for entry in found if entry.time < told_from)


def _history_begin(probe: Json) -> float:
    """Return the second from which on a probe's history tells all, infinity without one."""
    history = probe.get("history") or ()
    return float(int(seconds(history[0]["first"]))) if history else math.inf


def of_probes(probes: Sequence[Json]) -> Iterator[Entry]:
    """Yield each change of a probe's result; what goes on failing is told once more, for when it failed last."""
    for one in probes:
        for stretch in one.get("history") or ():
            result = str(stretch["result"])
            words = {"success": "succeeded", "failure": "failed"}.get(result, "could not be run")
            answer = " ".join(str(stretch.get("output") or "").split())
            text = f"{one['kind']} probe {words}{f': {answer}' if answer else ''}"
            begin, end, more = seconds(stretch["first"]), seconds(stretch["last"]), int(stretch["count"]) - 1
            if result == "success":
                often = f" (and {more} more {'time' if more == 1 else 'times'} until {_clock(end)})" if more else ""
                yield Entry(begin, 3, "probe", str(one["container"]), text + often)
                continue
            yield Entry(begin, 3, "Probe", str(one["container"]), text)
            if more:
                yield Entry(end, 3, "Probe", str(one["container"]), f"{text} (x{more + 1} since {_clock(begin)})")


def of_states(known: facts.Facts) -> Iterator[Entry]:
    """Yield starts and ends: exact ones of all instances that are recorded, or the two newest of the status."""
    recorded: set[str] = set()
    for one in known.instances:
        name, count = str(one.get("container", "")), int(one.get("restartCount") or 0)
        recorded.add(str(one.get("id")))
        if one.get("startedAt"):
            yield _started(name, one["startedAt"], count)
        if one.get("exit"):
            yield _ended(name, one["exit"])
    status = known.pod.get("status", {})
    for group in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(group) or ():
            for state in (one.get("lastState") or {}, one.get("state") or {}):
                running, ended = state.get("running") or {}, state.get("terminated") or {}
                identity = str(ended.get("containerID") or one.get("containerID") or "").rpartition("//")[2]
                if identity in recorded:
                    continue
                started = running.get("startedAt") or ended.get("startedAt")
                if started and seconds(started):  # 0: it has never started
                    yield _started(one["name"], started, 0)
                if ended.get("finishedAt"):
                    yield _ended(one["name"], ended)


def _started(name: str, stamp: str, count: int) -> Entry:
    return Entry(seconds(stamp), 1, "start", name, f"container started{f' (restart {count})' if count else ''}")


def _ended(name: str, ended: Json) -> Entry:
    words = [str(ended["reason"])] if ended.get("reason") else []
    if ended.get("memoryPeakBytes"):
        words.append(f"memory peak {mebibytes(int(ended['memoryPeakBytes']))}")
    why = f" ({', '.join(words)})" if words else ""
    text = f"container ended with exit code {ended.get('exitCode', 0)}{why}"
    # What it printed last came before, also where its log says the same second, or was written a moment later.
    moment = seconds(ended["finishedAt"])
    return Entry(moment + (_LATE if moment.is_integer() else _DRAIN_S), 4, "end", name, text)


def of_line(container: str, line: LogLine) -> Entry:
    """Return a line of a log."""
    from minikubelet.cli.logs import seconds as stamp

    what = "out" if line.stream == b"stdout" else "err"
    return Entry(stamp(line.stamp), 3, what, container, line.text.decode("utf-8", "replace"))


def _identity(one: Entry) -> Entry:
    """Return what makes an entry new while following: a success that goes on is not, a failure that comes again is."""
    return one._replace(text=one.text.partition(" (and ")[0]) if one.what == "probe" else one


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")


def render(one: Entry, width: int) -> str:
    """Return an entry as a line: the time, who, what."""
    if one.time.is_integer() or one.time - int(one.time) > _LATE - 1e-6:
        clock = f"{_clock(one.time)}    "  # recorded by whole seconds
    else:
        clock = datetime.fromtimestamp(one.time).strftime("%H:%M:%S.%f")[:-3]
    colour = {
        "Warning": terminal.YELLOW,
        "Probe": terminal.YELLOW,
        "end": terminal.RED,
        "start": terminal.GREEN,
        "event": terminal.DIM,
        "probe": terminal.DIM,
    }
    text = terminal.printable(one.text) if one.what not in ("out", "err") else one.text
    what = one.what.lower() if one.what == "Probe" else one.what
    head = f"{clock}  {one.container or '-':<{width}}  {what:<7}  "
    return head + terminal.paint(text, colour.get(one.what, ""))


def _follow(
    options: argparse.Namespace, pod: Json, followers: dict[str, Follower], shown: Set[Entry], width: int
) -> None:
    """Print what comes. `shown` are the records that are printed already; lines of logs are never kept."""
    from minikubelet.linux.inotify import Bell

    bell = Bell()
    try:
        while True:
            for name in followers:
                bell.watch(container_directory(options.log_dir, pod, name))
            known = _look(options, pod)
            found = [] if known is None else records(known)
            new = sorted((one for one in found if _identity(one) not in shown), key=lambda one: one.time)
            logs = [_new_lines(name, follower) for name, follower in followers.items()]
            for one in in_order(merge(new, *logs, key=lambda one: one.time), pod):
                print(render(one, width))
            shown = {_identity(one) for one in found}
            sys.stdout.flush()
            if any(follower.behind for follower in followers.values()):
                continue
            if known is None or known.pod.get("status", {}).get("phase") in _TERMINAL:
                return
            bell.wait(_LOOK_S)
    finally:
        bell.close()


def _look(options: argparse.Namespace, pod: Json) -> facts.Facts | None:
    """Return the pod as it is now, None when it is gone."""
    meta = pod["metadata"]
    for one in client.pods(options, meta["namespace"], "", f"metadata.name={meta['name']}"):
        if one["metadata"]["uid"] == meta["uid"]:
            return facts.gather(options, one)
    return None
