"""`minikubelet port-forward POD PORTS`: listens on this machine and passes connections on into the pod's network."""

from __future__ import annotations

import argparse
import contextlib
import select
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from minikubelet.cli import client, lookup
from minikubelet.cli.arguments import add_namespace, namespace_of
from minikubelet.cli.main import CommandFailed
from minikubelet.cli.websocket import WebSocket
from minikubelet.server import spdy

Json = dict[str, Any]

EXAMPLES = """\
examples:
  minikubelet port-forward web 8080:80            http://127.0.0.1:8080 is the pod's port 80
  minikubelet port-forward web 80 5000:6000       the same number on both sides, and another pair
  minikubelet port-forward web :http              any free port here; ports have names too
  minikubelet port-forward --address 0.0.0.0 web 8080:80

It also reaches servers that listen on the pod's 127.0.0.1 only. Ctrl-C ends it.
"""

_ERROR_STREAM, _DATA_STREAM = 1, 3
_CHUNK: Final = 1 << 16
_MOST_UNSENT: Final = 1 << 20


class Forward(NamedTuple):
    """A pair of ports; `local` 0 means any."""

    local: int
    remote: int


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("ports", nargs="+", metavar="[LOCAL:]REMOTE", help="a number or the name of a port")
    add_namespace(parser)
    parser.add_argument("--address", default="localhost", help="where to listen, several with commas (localhost)")


def execute(options: argparse.Namespace) -> int:
    """Forward until interrupted."""
    pod = lookup.find_pod(options, namespace_of(options), options.pod)
    forwards = [parse_forward(text, pod) for text in options.ports]
    phase = pod.get("status", {}).get("phase")
    if phase != "Running":
        raise CommandFailed(f"unable to forward port because pod is not running. Current status={phase}")
    listeners: list[tuple[socket.socket, Forward]] = []
    try:
        for one in forwards:
            listeners += [(listener, one) for listener in _listen(options.address.split(","), one)]
        _serve(options, pod, listeners)
    finally:
        for listener, _ in listeners:
            listener.close()
    return 0


def parse_forward(text: str, pod: Json) -> Forward:
    """Return the ports of `8080:80`, `80`, `:80`, `0:80` or with a name on the right. Raises CommandFailed."""
    left, colon, right = text.rpartition(":")
    remote = _remote(right, pod)
    if not colon:
        return Forward(remote, remote)
    if left and not (left.isdigit() and int(left) < 65536):
        raise CommandFailed(f'"{left}" in "{text}" is not a port between 0 and 65535', 2)
    return Forward(int(left or 0), remote)


def _remote(text: str, pod: Json) -> int:
    if text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    named = {
        port["name"]: int(port["containerPort"])
        for group in ("containers", "initContainers")
        for one in pod["spec"].get(group) or ()
        for port in one.get("ports") or ()
        if port.get("name")
    }
    if text in named:
        return named[text]
    known = f"; the pod names {', '.join(named)}" if named else "; the pod names no ports"
    raise CommandFailed(f'"{text}" is neither a port between 1 and 65535 nor the name of one{known}', 2)


def _listen(addresses: Sequence[str], forward: Forward) -> list[socket.socket]:
    hosts = [host for one in addresses for host in (("127.0.0.1", "::1") if one == "localhost" else (one,))]
    found: list[socket.socket] = []
    failure: OSError | None = None
    port = forward.local
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family)
        except OSError as error:
            failure = error
            continue
        port = listener.getsockname()[1]  # the same one on every address
        found.append(listener)
        shown = f"[{host}]" if ":" in host else host
        print(f"Forwarding from {shown}:{port} -> {forward.remote}", flush=True)
    if not found:
        reason = failure.strerror if failure is not None else "no address"
        hint = f"take another port on the left, or any free one with :{forward.remote}"
        raise CommandFailed(f"cannot listen on port {port}: {reason}; {hint}")
    return found


def _serve(options: argparse.Namespace, pod: Json, listeners: Sequence[tuple[socket.socket, Forward]]) -> None:
    by_socket = dict(listeners)
    while True:
        ready, _, _ = select.select(list(by_socket), [], [])
        for listener in ready:
            connection, _ = listener.accept()
            print(f"Handling connection for {listener.getsockname()[1]}", flush=True)
            worker = threading.Thread(
                target=_pass_on, args=(options, pod, connection, by_socket[listener].remote), daemon=True
            )
            worker.start()


def _pass_on(options: argparse.Namespace, pod: Json, connection: socket.socket, port: int) -> None:
    """Move the bytes of one connection both ways until both sides are done."""
    meta = pod["metadata"]
    path = client.scope("pods", meta["namespace"], meta["name"], "portforward")
    with connection:
        try:
            tunnel = WebSocket(options, path, [], (spdy.TUNNEL,))
        except CommandFailed as failure:
            print(f"error forwarding port {port}: {failure}", file=sys.stderr, flush=True)
            return
        with contextlib.suppress(ConnectionError, TimeoutError):
            _move(connection, tunnel, port)
        tunnel.close()


def _move(connection: socket.socket, tunnel: WebSocket, port: int) -> None:
    """Pass on pieces and ends: each side may say that it has said all while the other still speaks."""
    codec = spdy.Codec()
    for stream, kind in ((_ERROR_STREAM, "error"), (_DATA_STREAM, "data")):
        headers = {"streamtype": kind, "port": str(port), "requestid": "0"}
        # What is to be said of errors is the daemon's alone to say.
        tunnel.send(codec.syn_stream(stream, headers, fin=stream == _ERROR_STREAM))
    open_here = open_there = True
    while open_here or open_there:
        for frame in [frame for message in tunnel.receive() for frame in codec.feed(message)]:
            if _is_last(frame, port):
                return
            if frame.kind is None and frame.stream == _DATA_STREAM:
                connection.sendall(frame.data)
                if frame.fin and open_there:
                    open_there = False
                    connection.shutdown(socket.SHUT_WR)
        if tunnel.closed:
            return
        readers: list[Any] = [tunnel]
        if open_here and len(tunnel.unsent) < _MOST_UNSENT:
            readers.append(connection)
        ready, _, _ = select.select(readers, [tunnel] if tunnel.unsent else [], [])
        tunnel.flush()
        if connection in ready:
            piece = connection.recv(_CHUNK)
            open_here = bool(piece)
            tunnel.send(spdy.data_frame(_DATA_STREAM, piece, fin=not piece))


def _is_last(frame: spdy.Frame, port: int) -> bool:
    """Tell whether nothing follows a frame: an error, which is told, or an end in both directions."""
    if frame.kind is spdy.Kind.RST_STREAM:
        return True
    if frame.kind is not None or frame.stream != _ERROR_STREAM:
        return False
    if frame.data:
        text = frame.data.decode("utf-8", "replace")
        print(f"error forwarding port {port}: {text}", file=sys.stderr, flush=True)
    return bool(frame.data) or frame.fin
