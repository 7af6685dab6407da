"""What is served here, told in the three forms that clients ask for: aggregated (v2, v2beta1) and plain.

Source: apidiscovery.k8s.io/v2 types, apiserver pkg/endpoints/discovery (v1.36).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from minikubelet.server.errors import ApiError, json_response
from minikubelet.server.negotiation import media_ranges
from minikubelet.server.resources import RESOURCES, VERBS, Resource

Json = dict[str, Any]

METRICS_GROUP: Final = "metrics.k8s.io"
METRICS_VERSION: Final = "v1beta1"
_METRICS: Final = (
    Resource(name="nodes", kind="NodeMetrics", namespaced=False),
    Resource(name="pods", kind="PodMetrics", namespaced=True),
)
_METRICS_VERBS: Final = ("get", "list")


def aggregated(name: str, *, beta: bool) -> Json:
    """Return aggregated discovery of `api` or `apis`."""
    core = ("", "v1", tuple(RESOURCES.values()), VERBS)
    groups = [core] if name == "api" else [(METRICS_GROUP, METRICS_VERSION, _METRICS, _METRICS_VERBS)]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{'v2beta1' if beta else 'v2'}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": group, "creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "resources": [_aggregated_resource(group, version, one, verbs) for one in resources],
                        "freshness": "Current",
                    }
                ],
            }
            for group, version, resources, verbs in groups
        ],
    }


def _aggregated_resource(group: str, version: str, one: Resource, verbs: tuple[str, ...]) -> Json:
    value: Json = {
        "resource": one.name,
        "responseKind": {"group": group, "version": version, "kind": one.kind},
        "scope": "Namespaced" if one.namespaced else "Cluster",
        "singularResource": "pod"
        if one.kind == "PodMetrics"
        else "node"
        if one.kind == "NodeMetrics"
        else one.singular,
        "verbs": list(verbs),
    }
    if one.short_names:
        value["shortNames"] = list(one.short_names)
    if one.categories:
        value["categories"] = list(one.categories)
    if one.subresources:
        value["subresources"] = [
            {
                "subresource": name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": list(its_verbs),
            }
            for name, kind, its_verbs in one.subresources
        ]
    return value


def api_versions(host: str) -> Json:
    """Return the plain answer of `/api`."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def metrics_group() -> Json:
    """Return the one group of `/apis`."""
    version = {"groupVersion": f"{METRICS_GROUP}/{METRICS_VERSION}", "version": METRICS_VERSION}
    return {"name": METRICS_GROUP, "versions": [version], "preferredVersion": version}


def resource_list(group_version: str, resources: tuple[Resource, ...], verbs: tuple[str, ...]) -> Json:
    """Return the plain list of one version's resources."""
    found: list[Json] = []
    for one in resources:
        entry: Json = {
            "name": one.name,
            "singularName": one.singular,
            "namespaced": one.namespaced,
            "kind": one.kind,
            "verbs": list(verbs),
        }
        if one.short_names:
            entry["shortNames"] = list(one.short_names)
        if one.categories:
            entry["categories"] = list(one.categories)
        found.append(entry)
        for name, kind, its_verbs in one.subresources:
            below = {"name": f"{one.name}/{name}", "singularName": "", "namespaced": one.namespaced, "kind": kind}
            found.append({**below, "verbs": list(its_verbs)})
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": found}


class Discovery:
    """Serves discovery and the version."""

    def __init__(self, version: str) -> None:
        """Args: version: Of this program."""
        self._version = version

    async def api(self, request: web.Request) -> web.Response:
        """Answer `/api`."""
        return _answer(request, "api", lambda: api_versions(request.host))

    async def apis(self, request: web.Request) -> web.Response:
        """Answer `/apis`."""
        return _answer(
            request, "apis", lambda: {"kind": "APIGroupList", "apiVersion": "v1", "groups": [metrics_group()]}
        )

    async def core(self, request: web.Request) -> web.Response:
        """Answer `/api/v1`."""
        return json_response(resource_list("v1", tuple(RESOURCES.values()), VERBS))

    async def group(self, request: web.Request) -> web.Response:
        """Answer `/apis/metrics.k8s.io`."""
        return json_response({"kind": "APIGroup", "apiVersion": "v1", **metrics_group()})

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer `/apis/metrics.k8s.io/v1beta1`."""
        return json_response(resource_list(f"{METRICS_GROUP}/{METRICS_VERSION}", _METRICS, _METRICS_VERBS))

    async def version(self, request: web.Request) -> web.Response:
        """Answer `/version`."""
        import platform

        return json_response(
            {
                "major": "1",
                "minor": "36",
                "gitVersion": f"v1.36.0-minikubelet.{self._version}",
                "gitCommit": "",
                "gitTreeState": "",
                "buildDate": "",
                "goVersion": "",
                "compiler": f"{platform.python_implementation()} {platform.python_version()}",
                "platform": f"linux/{platform.machine()}",
            }
        )


def _answer(request: web.Request, name: str, plain: Callable[[], Json]) -> web.Response:
    """Answer in the form that the client likes best among those that are known."""
    for media, parameters in media_ranges(request.headers.get("Accept", "") or "application/json"):
        if media not in ("application/json", "*/*", "application/*"):
            continue
        if "as" not in parameters:
            return json_response(plain())
        version = parameters.get("v")
        is_known = parameters["as"] == "APIGroupDiscoveryList" and parameters.get("g") == "apidiscovery.k8s.io"
        if is_known and version in ("v2", "v2beta1"):
            kind = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            return json_response(aggregated(name, beta=version == "v2beta1"), content_type=kind)
    raise ApiError(406, "only the following media types are accepted: application/json")
