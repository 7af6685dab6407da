"""Errors as the Kubernetes API words them: a `Status` object with code, reason, message and details."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

Json = dict[str, Any]

_REASONS: Final = {
    400: "BadRequest",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    410: "Expired",
    413: "RequestEntityTooLarge",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """An answer that is a failure; the server's outermost layer turns it into a response."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: Json | None = None) -> None:
        """Args: reason: the machine's word, by default the one that goes with the code."""
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason or _REASONS.get(code, "")
        self.details = details

    def status(self) -> Json:
        """Return the `Status` object."""
        return failure(self.code, self.reason, self.message, self.details)

    def response(self) -> web.Response:
        """Return the whole answer."""
        return json_response(self.status(), code=self.code)


def failure(code: int, reason: str, message: str, details: Json | None = None) -> Json:
    """Return a `Status` of a failure."""
    body: Json = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
    }
    if details is not None:
        body["details"] = details
    body["code"] = code
    return body


def not_found(resource: str, name: str) -> ApiError:
    """Return the error for an object that is not there; `resource` may carry its group: `pods.metrics.k8s.io`."""
    kind, _, group = resource.partition(".")
    details = {"name": name, **({"group": group} if group else {}), "kind": kind}
    return ApiError(404, f'{resource} "{name}" not found', details=details)


def invalid(kind: str, name: str, problems: list[tuple[str, str, str]]) -> ApiError:
    """Return the error for fields that cannot be taken: (field, reason, text) each, as apimachinery joins them."""
    texts = [f"{field}: {text}" for field, _, text in problems]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": reason, "message": text, "field": field} for field, reason, text in problems]
    details = {"name": name, "kind": kind, "causes": causes}
    return ApiError(422, f'{kind} "{name}" is invalid: {joined}', details=details)


def json_response(body: Any, *, code: int = 200, content_type: str = "application/json") -> web.Response:
    """Return a response of one JSON value."""
    return web.Response(body=msgspec.json.encode(body), status=code, headers={"Content-Type": content_type})
