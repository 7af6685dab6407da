"""Talks to the daemon's socket with the standard library; reads the status files when nobody answers."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from minikubelet.cli.main import CommandFailed

Json = dict[str, Any]


class DaemonDown(Exception):
    """Nobody listens on the socket."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("minikubelet")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory, name = os.path.split(self._path)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)  # a socket's own path may be 107 bytes at most
        try:
            self.sock.connect(f"/proc/self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)


def fetch(options: argparse.Namespace, path: str, **query: str) -> Json:
    """Return the answer to a GET. Raises DaemonDown or CommandFailed."""
    response = _request(options, path, query)
    body: Json = json.loads(response.read())
    if response.status != 200:
        raise CommandFailed(f"Error from server ({body.get('reason', '')}): {body.get('message', '')}")
    return body


def stream(options: argparse.Namespace, path: str, **query: str) -> Iterator[Json]:
    """Yield the lines of a watch."""
    response = _request(options, path, query)
    for line in response:
        yield json.loads(line)


def _request(options: argparse.Namespace, path: str, query: dict[str, str]) -> http.client.HTTPResponse:
    connection = _Connection(os.path.join(options.run_dir, "minikubelet.sock"))
    text = urlencode({key: value for key, value in query.items() if value})
    try:
        connection.request("GET", f"{path}?{text}" if text else path)
        return connection.getresponse()
    except PermissionError as error:
        raise CommandFailed("cannot talk to the daemon: only root may") from error
    except OSError as error:
        raise DaemonDown from error


def pods(options: argparse.Namespace, namespace: str, selector: str = "") -> list[Json]:
    """Return the pods of a namespace ("" for all), from the daemon or else from its files."""
    try:
        scope = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        found: list[Json] = fetch(options, scope, labelSelector=selector)["items"]
    except DaemonDown:
        found = [one for one in _from_files(options) if not namespace or one["metadata"]["namespace"] == namespace]
        print("minikubelet: the daemon does not answer; this is what it last wrote", file=sys.stderr)
    return found


def _from_files(options: argparse.Namespace) -> list[Json]:
    directory = os.path.join(options.run_dir, "status")
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError as error:
        raise CommandFailed(
            f"cannot find a daemon: nothing listens on {options.run_dir}/minikubelet.sock, and there are no status "
            "files; start one with 'minikubelet run' or systemctl start minikubelet"
        ) from error
    found: list[Json] = []
    for name in names:
        if name.endswith(".json"):
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                found.append(json.load(file))
    return found


def find_pod(options: argparse.Namespace, namespace: str, name: str) -> Json:
    """Return a pod by its full name or by its manifest's name, without the node's."""
    plain = name.removeprefix("pod/").removeprefix("pods/")
    every = pods(options, namespace)
    for one in every:
        if one["metadata"]["name"] == plain:
            return one
    for one in every:
        if one["metadata"]["name"] == f"{plain}-{one['spec'].get('nodeName', '').lower()}":
            return one
    raise CommandFailed(f'Error from server (NotFound): pods "{plain}" not found')
