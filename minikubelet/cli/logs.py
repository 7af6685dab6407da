"""`minikubelet logs`: reads the log files, so it works with and without the daemon."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from minikubelet.cli import lookup
from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]

_POLL_S = 0.1


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-c", "--container")
    parser.add_argument("-p", "--previous", action="store_true")
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("--tail", type=int, default=-1, metavar="LINES")
    parser.add_argument("--timestamps", action="store_true")


def execute(options: argparse.Namespace) -> int:
    """Print a container's log."""
    pod = lookup.find_pod(options, options.namespace, options.pod)
    container = options.container or pod["spec"]["containers"][0]["name"]
    status = _status(pod, container)
    count = status["restartCount"]
    if options.previous:
        if "terminated" not in status.get("lastState", {}):
            name = pod["metadata"]["name"]
            raise CommandFailed(f'previous terminated container "{container}" in pod "{name}" not found')
        count -= 0 if "waiting" in status["state"] else 1
    elif not status.get("containerID"):
        reason = status["state"].get("waiting", {}).get("reason", "")
        name = pod["metadata"]["name"]
        raise CommandFailed(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
    meta = pod["metadata"]
    directory = os.path.join(options.log_dir, "pods", f"{meta['namespace']}_{meta['name']}_{meta['uid']}", container)
    path = os.path.join(directory, f"{count}.log")
    try:
        lines = _lines(path, follow=options.follow and not options.previous)
        _print(lines, options)
    except FileNotFoundError as error:
        raise CommandFailed(f"cannot read {path}: there is no such log (yet)") from error
    return 0


def _status(pod: Json, container: str) -> Json:
    status = pod.get("status", {})
    every = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    for one in every:
        if one["name"] == container:
            found: Json = one
            return found
    known = " ".join(one["name"] for one in every)
    name = pod["metadata"]["name"]
    raise CommandFailed(f"container {container} is not valid for pod {name}; its containers are: {known}")


def _lines(path: str, *, follow: bool) -> Iterator[bytes | None]:
    """Yield whole lines; None where the file ends for now."""
    rest = b""
    with open(path, "rb") as file:
        while True:
            chunk = file.read(65536)
            if chunk:
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
                continue
            yield None
            if not follow:
                return
            try:
                if os.stat(path).st_ino != os.fstat(file.fileno()).st_ino:
                    break  # rotated away: go on with the new file
            except FileNotFoundError:
                return
            time.sleep(_POLL_S)
    yield from _lines(path, follow=follow)


def _print(lines: Iterator[bytes | None], options: argparse.Namespace) -> None:
    kept: list[bytes] | None = [] if options.tail >= 0 else None
    for line in lines:
        if line is None:
            if kept is not None:
                for one in kept[len(kept) - min(options.tail, len(kept)) :]:
                    _write(one, options)
                kept = None
            sys.stdout.flush()
        elif kept is not None:
            kept.append(line)
        else:
            _write(line, options)


def _write(line: bytes, options: argparse.Namespace) -> None:
    words = line.split(b" ", 3)
    if len(words) < 4:
        return
    stamp, stream, tag, text = words
    output = sys.stderr if stream == b"stderr" else sys.stdout
    prefix = stamp + b" " if options.timestamps else b""
    output.buffer.write(prefix + text + (b"" if tag.startswith(b"P") else b"\n"))
