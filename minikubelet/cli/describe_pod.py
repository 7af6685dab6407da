"""What `kubectl describe pod` prints of a Pod, and what only this node knows: its manifest, its probes' last results.

Source: kubectl pkg/describe/describe.go `describePod` (v1.36).
"""

from __future__ import annotations

import email.utils
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from minikubelet.cli.facts import Facts
from minikubelet.cli.findings import mebibytes, seconds
from minikubelet.cli.terminal import printable
from minikubelet.lifecycle.columns import human_duration, ip_column

Json = Mapping[str, Any]

_NONE: Final[Json] = {}
_LONGEST_OUTPUT: Final = 200
_VOLUMES: Final = {
    "emptyDir": "EmptyDir (a temporary directory that shares a pod's lifetime)",
    "hostPath": "HostPath (bare host directory volume)",
    "configMap": "ConfigMap (a volume populated by a ConfigMap)",
    "secret": "Secret (a volume populated by a Secret)",
    "downwardAPI": "DownwardAPI (a volume populated by information about the pod)",
    "projected": "Projected (a volume that contains injected data from multiple sources)",
}


def pod_lines(facts: Facts, usage: Mapping[str, Json], now: float) -> Iterator[str]:
    """Yield the description's lines, columns parted by tabs.

    Args:
        facts: The pod and what is recorded about it.
        usage: What each container uses: `{"cpu": "3m", "memory": "12Mi"}`.
        now: Unix time.
    """
    pod = facts.pod
    yield from _head(facts, now)
    for title, group in (("Init Containers", "initContainers"), ("Containers", "containers")):
        specs = pod["spec"].get(group) or ()
        if specs:
            yield f"{title}:"
        for spec in specs:
            yield from _container(facts, spec, usage.get(spec["name"], _NONE), now)
    yield from _conditions(pod)
    yield from _volumes(pod)
    yield f"QoS Class:\t{pod.get('status', _NONE).get('qosClass', '')}"
    yield from _pairs("Node-Selectors", pod["spec"].get("nodeSelector") or {}, "=")
    tolerations = [_toleration(one) for one in pod["spec"].get("tolerations") or ()]
    yield from _listing("Tolerations", tolerations)
    yield from event_lines(facts.events, now)


def _head(facts: Facts, now: float) -> Iterator[str]:
    pod = facts.pod
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", _NONE)
    yield f"Name:\t{meta['name']}"
    yield f"Namespace:\t{meta['namespace']}"
    if spec.get("priority") is not None:
        yield f"Priority:\t{spec['priority']}"
    if spec.get("priorityClassName"):
        yield f"Priority Class Name:\t{spec['priorityClassName']}"
    yield f"Manifest:\t{_manifest(facts)}"
    yield f"Node:\t{spec.get('nodeName') or '<none>'}/{status.get('hostIP', '')}"
    yield f"Start Time:\t{moment(status.get('startTime'))}"
    yield from _pairs("Labels", meta.get("labels") or {}, "=")
    yield from _pairs("Annotations", meta.get("annotations") or {}, ": ")
    if meta.get("deletionTimestamp"):
        grace = meta.get("deletionGracePeriodSeconds")
        since = human_duration(max(0.0, now - seconds(meta["deletionTimestamp"]) + (grace or 0)))
        yield f"Status:\tTerminating (lasts {since})"
        yield f"Termination Grace Period:\t{grace}s"
    else:
        yield f"Status:\t{status.get('phase', '')}"
    for name in ("reason", "message"):
        if status.get(name):
            yield f"{name.title()}:\t{status[name]}"
    yield f"IP:\t{'' if ip_column(pod) == '<none>' else ip_column(pod)}"
    ips = status.get("podIPs") or ()
    yield "IPs:" if ips else "IPs:\t<none>"
    yield from (f"  IP:\t{one.get('ip', '')}" for one in ips)


def _manifest(facts: Facts) -> str:
    if not facts.verdict.file:
        return "<unknown>"
    file = facts.verdict.file
    place = f"{file}:{facts.line}" if facts.line else file
    verdict = facts.verdict.text.split("\n", 1)[0].removeprefix(f"{file}: ")
    kept = ", its last good version runs" if facts.verdict.is_refused else ""
    return f"{place} ({verdict}{kept})" if verdict else place


def _container(facts: Facts, spec: Json, usage: Json, now: float) -> Iterator[str]:
    status = _status_of(facts.pod, spec["name"])
    yield f"  {spec['name']}:"
    yield f"    Container ID:\t{status.get('containerID', '')}"
    yield f"    Image:\t{spec.get('image', '')}"
    yield f"    Image ID:\t{status.get('imageID', '')}"
    yield from _ports(spec.get("ports") or ())
    for title, key in (("Command", "command"), ("Args", "args")):
        if spec.get(key):
            yield f"    {title}:"
            yield from (f"      {line}" for word in spec[key] for line in word.split("\n"))
    yield from _state("State", status.get("state") or {})
    if (status.get("lastState") or _NONE).get("terminated"):
        yield from _state("Last State", status["lastState"])
    yield f"    Ready:\t{bool(status.get('ready'))}"
    yield f"    Restart Count:\t{status.get('restartCount', 0)}"
    resources = spec.get("resources") or _NONE
    yield from _amounts("Limits", resources.get("limits") or _NONE)
    yield from _amounts("Requests", resources.get("requests") or _NONE)
    peak = _memory_peak(facts, status)
    yield from _amounts("Use", usage, [("memory peak", mebibytes(peak))] if peak else [])
    for kind in ("liveness", "readiness", "startup"):
        if spec.get(f"{kind}Probe"):
            yield f"    {kind.title()}:\t{probe_line(spec[f'{kind}Probe'])}"
            last = last_result(facts, spec["name"], kind, now)
            if last:
                yield f"      Last:\t{last}"
    yield from _environment(facts.pod, spec)
    yield from _mounts(spec)


def _ports(ports: Sequence[Json]) -> Iterator[str]:
    many = "Ports" if len(ports) > 1 else "Port"
    shown = [f"{one['containerPort']}/{one.get('protocol') or 'TCP'}{_named(one)}" for one in ports]
    yield f"    {many}:\t{', '.join(shown) or '<none>'}"
    hosts = [f"{one.get('hostPort', 0)}/{one.get('protocol') or 'TCP'}{_named(one)}" for one in ports]
    yield f"    Host {many}:\t{', '.join(hosts) or '<none>'}"


def _amounts(title: str, amounts: Json, more: Sequence[tuple[str, str]] = ()) -> Iterator[str]:
    """Yield amounts of resources by name, and then more; nothing without any."""
    if amounts or more:
        yield f"    {title}:"
        yield from (f"      {name}:\t{value}" for name, value in (*sorted(amounts.items()), *more))


def _memory_peak(facts: Facts, status: Json) -> int:
    """Return the most bytes that the running instance has held at once, 0 when that is not known."""
    if "running" not in (status.get("state") or _NONE):
        return 0
    own = str(status.get("containerID", "")).rpartition("//")[2]
    return next((int(one.get("memoryPeakBytes") or 0) for one in facts.instances if one.get("id") == own), 0)


def _named(port: Json) -> str:
    return f" ({port['name']})" if port.get("name") else ""


def _status_of(pod: Json, name: str) -> Json:
    status = pod.get("status", _NONE)
    every = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((one for one in every if one["name"] == name), _NONE)


def _state(title: str, state: Json) -> Iterator[str]:
    if state.get("running") is not None:
        yield f"    {title}:\tRunning"
        yield f"      Started:\t{moment(state['running'].get('startedAt'))}"
    elif state.get("terminated") is not None:
        ended = state["terminated"]
        yield f"    {title}:\tTerminated"
        if ended.get("reason"):
            yield f"      Reason:\t{ended['reason']}"
        if ended.get("message"):
            yield f"      Message:\t{_one_line(ended['message'])}"
        yield f"      Exit Code:\t{ended.get('exitCode', 0)}"
        if ended.get("signal"):
            yield f"      Signal:\t{ended['signal']}"
        yield f"      Started:\t{moment(ended.get('startedAt'))}"
        yield f"      Finished:\t{moment(ended.get('finishedAt'))}"
    else:
        waiting = state.get("waiting") or _NONE
        yield f"    {title}:\tWaiting"
        if waiting.get("reason"):
            yield f"      Reason:\t{waiting['reason']}"
        if waiting.get("message"):
            yield f"      Message:\t{_one_line(waiting['message'])}"


def _one_line(text: str) -> str:
    return printable(" ".join(str(text).split()))


def probe_line(probe: Json) -> str:
    """Return a probe as kubectl writes it."""
    figures = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 1)}s "
        f"period={probe.get('periodSeconds', 10)}s #success={probe.get('successThreshold', 1)} "
        f"#failure={probe.get('failureThreshold', 3)}"
    )
    if "exec" in probe:
        return f"exec [{_one_line(' '.join(probe['exec'].get('command') or ()))}] {figures}"
    if "httpGet" in probe:
        action = probe["httpGet"]
        path = action.get("path") or "/"
        address = f"{action.get('host', '')}:{action.get('port')}{path if path.startswith('/') else f'/{path}'}"
        return f"http-get {str(action.get('scheme') or 'HTTP').lower()}://{address} {figures}"
    if "tcpSocket" in probe:
        return f"tcp-socket {probe['tcpSocket'].get('host', '')}:{probe['tcpSocket'].get('port')} {figures}"
    if "grpc" in probe:
        return f"grpc <pod>:{probe['grpc'].get('port')} {probe['grpc'].get('service') or ''} {figures}"
    return f"unknown {figures}"


def last_result(facts: Facts, container: str, kind: str, now: float) -> str:
    """Return a probe's last result: as the daemon has it, or else its last failure from the events."""
    for one in facts.probes:
        if one.get("container") == container and str(one.get("kind", "")).lower() == kind:
            return _probe_record(one, now)
    for event in reversed(facts.events):
        about = event.get("involvedObject", {}).get("fieldPath", "").partition("{")[2].rstrip("}")
        if about == container and event["message"].startswith(f"{kind.title()} probe"):
            ago = human_duration(max(0.0, now - seconds(event.get("lastTimestamp"))))
            return f"failure {ago} ago: {_one_line(event['message'].partition(': ')[2])}"
    return ""


def _probe_record(one: Json, now: float) -> str:
    result = str(one.get("result") or "not run yet")
    ago = f" {human_duration(max(0.0, now - seconds(str(one['time']))))} ago" if one.get("time") else ""
    output = _one_line(str(one.get("output") or ""))[:_LONGEST_OUTPUT] if result != "success" else ""
    return f"{result}{ago}{f': {output}' if output else ''}"


def _environment(pod: Json, spec: Json) -> Iterator[str]:
    sources = spec.get("envFrom") or ()
    if sources:
        yield "    Environment Variables from:"
    for one in sources:
        kind, reference = (
            ("ConfigMap", one["configMapRef"]) if one.get("configMapRef") else ("Secret", one.get("secretRef") or _NONE)
        )
        prefix = f" with prefix '{one['prefix']}'" if one.get("prefix") else ""
        yield f"      {reference.get('name')}\t{kind}{prefix}\tOptional: {str(bool(reference.get('optional'))).lower()}"
    variables = spec.get("env") or ()
    yield "    Environment:" if variables else "    Environment:\t<none>"
    yield from (f"      {one['name']}:\t{_variable(pod, spec, one)}" for one in variables)


def _variable(pod: Json, spec: Json, one: Json) -> str:
    source = one.get("valueFrom") or _NONE
    if source.get("fieldRef"):
        path = source["fieldRef"].get("fieldPath") or ""
        return f"{_one_line(_field(pod, path))} ({source['fieldRef'].get('apiVersion') or 'v1'}:{path})"
    if source.get("resourceFieldRef"):
        return f"{_amount(pod, spec, source['resourceFieldRef'])} ({source['resourceFieldRef'].get('resource')})"
    for key, words in (("configMapKeyRef", "of config map"), ("secretKeyRef", "in secret")):
        if source.get(key):
            found = source[key]
            optional = str(bool(found.get("optional"))).lower()
            return f"<set to the key '{found.get('key')}' {words} '{found.get('name')}'>\tOptional: {optional}"
    return _one_line(one.get("value") or "")


def _field(pod: Json, path: str) -> str:
    """Return what a fieldRef stands for, as far as the Pod says it now."""
    names = path.split(".")
    if path.endswith("']"):  # a label or an annotation, whose key may have dots
        head, _, key = path.removesuffix("']").partition("['")
        names = [*head.split("."), key]
    found: Any = pod
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    if isinstance(found, list):
        return ",".join(str(one.get("ip", "")) for one in found)
    return found if isinstance(found, str) else ""


def _amount(pod: Json, spec: Json, reference: Json) -> str:
    """Return what a resourceFieldRef stands for, as kubectl does: the node's share has no number."""
    from minikubelet.api.quantity import parse_quantity

    every = (*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"])
    name = reference.get("containerName") or spec["name"]
    own = next((one for one in every if one["name"] == name), spec)
    which, _, resource = str(reference.get("resource") or "").partition(".")
    text = ((own.get("resources") or _NONE).get(which) or _NONE).get(resource) or "0"
    divisor = parse_quantity(str(reference.get("divisor") or "0")).nanos or 10**9
    amount = -(-parse_quantity(str(text)).nanos // divisor)
    return str(amount) if amount or which != "limits" else "node allocatable"


def _mounts(spec: Json) -> Iterator[str]:
    mounts = sorted(spec.get("volumeMounts") or (), key=lambda one: str(one["mountPath"]))
    yield "    Mounts:" if mounts else "    Mounts:\t<none>"
    for one in mounts:
        flags = ["ro" if one.get("readOnly") else "rw"]
        if one.get("subPath") or one.get("subPathExpr"):
            flags.append(f'path="{one.get("subPath") or one.get("subPathExpr")}"')
        yield f"      {one['mountPath']} from {one['name']} ({','.join(flags)})"


def _conditions(pod: Json) -> Iterator[str]:
    conditions = pod.get("status", _NONE).get("conditions") or ()
    if conditions:
        yield "Conditions:"
        yield "  Type\tStatus"
    for one in conditions:
        why = _one_line(one.get("message") or "")
        yield f"  {one['type']}\t{one['status']}" + (f"\t{one.get('reason', '')}: {why}" if why else " ")


def _volumes(pod: Json) -> Iterator[str]:
    volumes = pod["spec"].get("volumes") or ()
    yield "Volumes:" if volumes else "Volumes:\t<none>"
    for one in volumes:
        yield f"  {one['name']}:"
        kind = next((key for key in one if key != "name"), "")
        yield f"    Type:\t{_VOLUMES.get(kind, kind)}"
        yield from _volume(kind, one.get(kind) or _NONE)


def _volume(kind: str, source: Json) -> Iterator[str]:
    if kind == "emptyDir":
        yield f"    Medium:\t{source.get('medium', '')}"
        yield f"    SizeLimit:\t{source.get('sizeLimit') or '<unset>'}"
    elif kind == "hostPath":
        yield f"    Path:\t{source.get('path')}"
        yield f"    HostPathType:\t{source.get('type') or ''}"
    elif kind in ("configMap", "secret"):
        title = "Name" if kind == "configMap" else "SecretName"
        yield f"    {title}:\t{source.get('name') or source.get('secretName')}"
        yield f"    Optional:\t{str(bool(source.get('optional'))).lower()}"
    elif kind == "downwardAPI":
        yield "    Items:"
        for item in source.get("items") or ():
            found = item.get("fieldRef") or item.get("resourceFieldRef") or _NONE
            yield f"      {found.get('fieldPath') or found.get('resource')} -> {item.get('path')}"
    elif kind == "projected":
        for one in source.get("sources") or ():
            for key in one:
                name = (one[key] or _NONE).get("name") or ""
                yield f"    {key[0].upper()}{key[1:]}{'Name' if name else ''}:\t{name or 'true'}"


def _toleration(one: Json) -> str:
    text = str(one.get("key") or "")
    if one.get("value"):
        text += f"={one['value']}"
    if one.get("effect"):
        text += f":{one['effect']}"
    if one.get("operator") == "Exists" and not one.get("value"):
        text += f"{' ' if text else ''}op=Exists"
    return text + (f" for {one['tolerationSeconds']}s" if one.get("tolerationSeconds") is not None else "")


def _pairs(title: str, values: Mapping[str, Any], between: str) -> Iterator[str]:
    yield from _listing(title, [f"{name}{between}{_one_line(value)}" for name, value in sorted(values.items())])


def _listing(title: str, values: Sequence[str]) -> Iterator[str]:
    first, *others = values or ["<none>"]
    yield f"{title}:\t{first}"
    yield from (f"\t{one}" for one in others)


def event_lines(events: Sequence[Json], now: float) -> Iterator[str]:
    """Yield the block of events that ends a description."""
    if not events:
        yield "Events:\t<none>"
        return
    yield "Events:"
    yield "  Type\tReason\tAge\tFrom\tMessage"
    yield "  ----\t------\t----\t----\t-------"
    for one in events:
        source = (one.get("source") or _NONE).get("component") or one.get("reportingComponent") or ""
        yield f"  {one['type']}\t{one['reason']}\t{age_of_event(one, now)}\t{source}\t{_one_line(one['message'])}"


def age_of_event(event: Json, now: float) -> str:
    """Return `5s`, or `5s (x3 over 2m)` for one that came again."""
    last = human_duration(max(0.0, now - seconds(event.get("lastTimestamp") or event.get("eventTime"))))
    count = int(event.get("count") or 1)
    if count < 2:
        return last
    return f"{last} (x{count} over {human_duration(max(0.0, now - seconds(event.get('firstTimestamp'))))})"


def moment(stamp: str | None) -> str:
    """Return a time as kubectl writes it: `Tue, 24 Nov 2026 22:15:59 +0000`, in local time."""
    if not stamp:
        return ""
    return email.utils.format_datetime(datetime.fromisoformat(stamp).astimezone())
