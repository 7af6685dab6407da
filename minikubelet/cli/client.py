"""Talks to the daemon's socket with the standard library; reads the daemon's files when nobody answers."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]
Query = Mapping[str, str | int | bool | None]

_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
_PATIENCE_S: Final = 30.0


class DaemonDown(CommandFailed):
    """Nobody listens on the socket, or this user may not talk to it; the text says which and what to do."""


class ServerError(CommandFailed):
    """The daemon answered with an error; `status` is its HTTP code, the text what kubectl would print."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"Error from server ({reason or status}): {message}")
        self.status = status
        self.reason = reason


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("minikubelet", timeout=_PATIENCE_S)
        self._path = path
        self.channel: socket.socket | None = None  # stays here when the response takes the connection over

    def connect(self) -> None:
        self.sock = self.channel = connect(self._path)
        self.sock.settimeout(_PATIENCE_S)


def socket_path(options: argparse.Namespace) -> str:
    """Return the path of the daemon's socket."""
    return os.path.join(options.run_dir, "minikubelet.sock")


def connect(path: str) -> socket.socket:
    """Return a connection to a Unix socket, however long its path. Raises DaemonDown."""
    try:
        directory, name = os.path.split(path)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)  # a socket's own path may be 107 bytes at most
        try:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
    except PermissionError as error:
        raise DaemonDown(f"cannot talk to the daemon: only root may use {path}; try again with sudo") from error
    except OSError as error:
        here = _of_make_run(path)
        raise DaemonDown(
            f"cannot talk to the daemon: nothing listens on {path}; start it with 'systemctl start minikubelet' or "
            f"'minikubelet run', or name its directory with --run-dir{here}"
        ) from error
    return connection


def _of_make_run(path: str) -> str:
    """Say that a node of `run --standalone` is in this directory, if it is and was not meant."""
    here = os.path.join(".run", "run")
    there = os.path.join(here, os.path.basename(path))
    return f": the one of 'make run' is {here}" if os.path.exists(there) and os.path.abspath(there) != path else ""


def request(
    options: argparse.Namespace,
    path: str,
    query: Query | Iterable[tuple[str, str]] = (),
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> http.client.HTTPResponse:
    """Return the response to one request; an error is raised as ServerError.

    Args:
        options: With `run_dir`.
        path: The path, quoted.
        query: Parameters; empty ones, None and False are left out.
        method: The HTTP method.
        headers: Further headers.
        body: What to send.
    """
    return _ask(_Connection(socket_path(options)), path, query, method=method, headers=headers, body=body)


def _ask(
    connection: _Connection,
    path: str,
    query: Query | Iterable[tuple[str, str]],
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> http.client.HTTPResponse:
    text = query_text(query)
    try:
        connection.request(method, f"{path}?{text}" if text else path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        raise CommandFailed(
            f"the daemon gave no answer ({_cause(error)}); see whether it is well with 'minikubelet status'"
        ) from error
    if response.status >= 300:
        raise error_of(response.status, response.reason, response.read(65536))
    return response


def query_text(query: Query | Iterable[tuple[str, str]]) -> str:
    """Return parameters as a URL has them; empty ones, None and False are left out."""
    pairs = query.items() if isinstance(query, Mapping) else query
    return urlencode([(name, _text(value)) for name, value in pairs if value not in ("", None, False)])


def _text(value: str | int | bool | None) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def error_of(status: int, reason: str, data: bytes) -> ServerError:
    """Return what the daemon answered as an error: the message of its Status, or its text."""
    try:
        body = json.loads(data)
        return ServerError(status, str(body.get("reason", "")), str(body["message"]))
    except (ValueError, KeyError, AttributeError, TypeError):
        return ServerError(status, reason, data.decode("utf-8", "replace").strip())


def fetch(options: argparse.Namespace, path: str, **query: str | int | bool | None) -> Json:
    """Return the JSON answer to a GET. Raises DaemonDown or ServerError."""
    body: Json = json.loads(request(options, path, query).read())
    return body


def fetch_table(options: argparse.Namespace, path: str, **query: str | int | bool | None) -> Json:
    """Return the answer to a GET as a Table, whose rows have the objects asked for by `includeObject`."""
    body: Json = json.loads(request(options, path, query, headers={"Accept": _TABLE}).read())
    return body


def stream(
    options: argparse.Namespace,
    path: str,
    *,
    as_table: bool = False,
    until: float | None = None,
    **query: str | int | bool | None,
) -> Iterator[Json]:
    """Yield the changes of a watch until the daemon ends it, or until a time of the monotonic clock.

    Raises ServerError for an ERROR event.
    """
    headers = {"Accept": _TABLE} if as_table else {}
    connection = _Connection(socket_path(options))
    for line in _lines(_ask(connection, path, {**query, "watch": True}, headers=headers), connection.channel, until):
        change: Json = json.loads(line)
        if change["type"] == "ERROR":
            status = change["object"]
            raise ServerError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
        if change["type"] != "BOOKMARK":
            yield change


def _lines(response: http.client.HTTPResponse, channel: socket.socket | None, until: float | None) -> Iterator[bytes]:
    while channel is not None:
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return
        channel.settimeout(left)
        try:
            line = response.readline()
        except (TimeoutError, ConnectionError, http.client.HTTPException):
            return
        if not line:
            return
        yield line


def scope(kind: str, namespace: str, name: str = "", sub: str = "") -> str:
    """Return the path of a collection, an object or a sub-resource; namespace "" means all, or none."""
    parts = ["/api/v1", *(["namespaces", quote(namespace, safe="")] if namespace else []), kind]
    return "/".join([*parts, *(quote(one, safe="") for one in (name, sub) if one)])


def pods(options: argparse.Namespace, namespace: str, selector: str = "", fields: str = "") -> list[Json]:
    """Return the pods of a namespace ("" for all), from the daemon or else from its files."""
    try:
        found: list[Json] = fetch(options, scope("pods", namespace), labelSelector=selector, fieldSelector=fields)[
            "items"
        ]
    except DaemonDown as down:
        found = [one for one in pods_from_files(options, down) if namespace in ("", one["metadata"]["namespace"])]
        found = choose("pods", found, selector, fields)
    return found


def events(options: argparse.Namespace, namespace: str, fields: str = "") -> list[Json]:
    """Return events, from the daemon or else from its file; none when neither can be had."""
    try:
        found: list[Json] = fetch(options, scope("events", namespace), fieldSelector=fields)["items"]
    except DaemonDown:
        found = [one for one in events_from_file(options) if namespace in ("", one["metadata"]["namespace"])]
        found = choose("events", found, "", fields)
    return sorted(found, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))


def choose(kind: str, items: list[Json], labels: str, fields: str) -> list[Json]:
    """Return the objects that selectors choose, as the daemon would. Raises CommandFailed for a bad selector."""
    if not labels and not fields:
        return items
    from minikubelet.server.selectors import Selector, SelectorError

    try:
        selector = Selector(kind, labels, fields)
    except SelectorError as error:
        raise CommandFailed(str(error)) from error
    return [one for one in items if selector.matches(one)]


_told: set[str] = set()


def tell_once(text: str) -> None:
    """Print a remark on stderr, but not twice."""
    if text not in _told:
        _told.add(text)
        print(f"minikubelet: {text}", file=sys.stderr)


def pods_from_files(options: argparse.Namespace, down: DaemonDown) -> list[Json]:
    """Return what the daemon last wrote of its pods, and say so. Raises `down` when there is nothing."""
    found = read_status_files(options, down)
    tell_once(f"{str(down).split(';', 1)[0]}; this is what it last wrote")
    return found


def read_status_files(options: argparse.Namespace, down: DaemonDown) -> list[Json]:
    """Return the pods as their status files have them. Raises `down` when there are none to read."""
    directory = os.path.join(options.run_dir, "status")
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".json"))
    except OSError:
        raise down from None
    return [pod for name in names if (pod := _read_pod(os.path.join(directory, name), down)) is not None]


def _damage(error: Exception) -> str:
    return "it is no JSON text" if isinstance(error, ValueError) else "it is no pod"


def _cause(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else ""
    return text or str(error) or "it closed the connection"


def _read_pod(path: str, down: DaemonDown) -> Json | None:
    try:
        with open(path, encoding="utf-8") as file:
            pod: Json = json.load(file)
        pod["metadata"]["name"], pod["metadata"]["namespace"], pod["spec"], pod["status"]
    except FileNotFoundError:
        return None  # gone meanwhile
    except PermissionError:
        raise down from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        tell_once(f"cannot read {path}: {_damage(error)}; the daemon writes it anew when it starts")
        return None
    return pod


def events_from_file(options: argparse.Namespace) -> list[Json]:
    """Return the events that the daemon keeps over a restart; the last state of each."""
    found: dict[str, Json] = {}
    try:
        with open(os.path.join(options.state_dir, "events.jsonl"), encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    one = json.loads(line)
                    found[one["metadata"]["name"]] = one
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # torn by a crash, or damaged
    except OSError:
        return []
    return list(found.values())
