"""Everything that is recorded about one pod, gathered from the daemon or, when it is down, from its files."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from minikubelet.cli import client, journals, lookup
from minikubelet.cli.refusals import verdicts

Json = dict[str, Any]

_PROBLEM = re.compile(r"^(?P<file>.*?)(?::(?P<line>\d+):(?P<column>\d+))?: error: (?P<message>.*)$")


class Verdict(NamedTuple):
    """What the daemon says of the manifest file that a pod comes from."""

    file: str  # "" when it is not known
    text: str = ""

    @property
    def is_refused(self) -> bool:
        """Tell whether the file as it is now is refused."""
        return self.text.split("\n", 1)[0].endswith(": refused")

    @property
    def errors(self) -> list[str]:
        """Return `FILE:LINE:COLUMN: error: TEXT` of every error."""
        return [line for line in self.text.splitlines() if ": error: " in line]

    @property
    def misspelt(self) -> list[str]:
        """Return `FILE:LINE:COLUMN: warning: TEXT` of every unknown field that was probably meant to be another."""
        return [line for line in self.text.splitlines() if ": warning: " in line and ": did you mean " in line]

    @property
    def good_since(self) -> str:
        """Return when the version that runs was written, "" when nothing runs."""
        found = re.search(r"(?:version of|file, of) (\S+?)(?:,| goes|:$)", self.text, re.MULTILINE)
        return found[1] if found else ""


class Facts(NamedTuple):
    """A pod with what is known around it; `probes` are the daemon's own records, newest result each."""

    pod: Json
    events: Sequence[Json] = ()
    verdict: Verdict = Verdict("")
    probes: Sequence[Json] = ()  # with `history`: stretches of equal results
    instances: Sequence[Json] = ()
    line: int = 0  # where in its file the pod's document begins


def gather(options: argparse.Namespace, pod: Json) -> Facts:
    """Return all that is recorded about a pod."""
    meta = pod["metadata"]
    verdict = verdict_of(options.run_dir, meta["uid"])
    try:
        path = (
            f"/minikubelet/v1/namespaces/{quote(meta['namespace'], safe='')}/pods/{quote(meta['name'], safe='')}/facts"
        )
        answer = client.fetch(options, path)
    except (client.DaemonDown, client.ServerError):
        answer = {}
    events = answer.get("events")
    if events is None:
        events = client.events(options, meta["namespace"], f"involvedObject.uid={meta['uid']}")
    manifest = answer.get("manifest") or {}
    if not verdict.file:
        verdict = _verdict_beside(options.run_dir, pod, str(manifest.get("file", "")))
    return Facts(
        pod=answer.get("pod") or pod,
        events=sorted(events, key=lambda one: str(one.get("lastTimestamp") or "")),
        verdict=verdict,
        probes=answer.get("probes") or (),
        instances=_instances(journals.instances(options.state_dir, meta["uid"]), answer.get("instances") or ()),
        line=int(manifest.get("line") or 0),
    )


def _instances(recorded: Sequence[Json], known: Sequence[Json]) -> list[Json]:
    """Return what the journal has, which goes back farther, with what the daemon knows of running ones."""
    found = {one["id"]: one for one in recorded}
    for one in known:
        found[one["id"]] = {**found.get(one["id"], {}), **one}
    return list(found.values())


def verdict_of(run_dir: str, uid: str) -> Verdict:
    """Return the verdict on the file that a pod comes from."""
    for _, text in verdicts(run_dir):
        if f"(uid {uid})" in text:
            return Verdict(_file(text), text)
    return Verdict("")


def _verdict_beside(run_dir: str, pod: Json, file: str) -> Verdict:
    """Return the verdict on the file that speaks of a pod's name, when that file asks for another pod than this one."""
    for _, text in verdicts(run_dir):
        if file and _file(text) == file:
            return Verdict(file, text)
    if pod["metadata"].get("deletionTimestamp"):
        name = lookup.manifest_name(pod)
        return next(iter(refused_without_pod(run_dir, name)), Verdict(file))
    return Verdict(file)


def refused_without_pod(run_dir: str, name: str) -> list[Verdict]:
    """Return the refusals of files that could have been meant to give a pod of this name: by name, or by their text."""
    found: list[Verdict] = []
    for _, text in verdicts(run_dir):
        one = Verdict(_file(text), text)
        stem = one.file.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        if one.is_refused and (stem == name or f'"{name}"' in text or _names(one.file, name)):
            found.append(one)
    return found


def _file(text: str) -> str:
    return text.split("\n", 1)[0].rsplit(": ", 1)[0]


def _names(path: str, name: str) -> bool:
    """Tell whether a manifest that cannot be accepted still says `name: NAME` somewhere."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 20)
    except OSError:
        return False
    return re.search(rf"""["']?name["']?:\s*["']?{re.escape(name)}["']?\s*[,}}\n]""", text) is not None
