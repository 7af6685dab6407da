"""`/healthz`, `/livez`, `/readyz` with their named checks.

Source: apiserver pkg/server/healthz/healthz.go (v1.36): the texts, `?verbose`, `?exclude=`, one path for each check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

Checks = Callable[[], Mapping[str, str]]


class HealthEndpoint:
    """Answers for one of the paths."""

    def __init__(self, name: str, checks: Checks) -> None:
        """Create it.

        Args:
            name: `healthz`, `livez` or `readyz`.
            checks: Says for each check what is wrong, "" for nothing.
        """
        self._name = name
        self._checks = checks

    async def all(self, request: web.Request) -> web.Response:
        """Answer for all checks."""
        excluded = set(request.query.getall("exclude", []))
        checks = self._checks()
        chosen = {name: text for name, text in checks.items() if name not in excluded}
        lines = [
            f"[{'-' if text else '+'}]{name} {f'failed: {text}' if text else 'ok'}" for name, text in chosen.items()
        ]
        lines += [f"[+]{name} excluded: ok" for name in sorted(excluded & checks.keys())]
        unknown = sorted(excluded - checks.keys())
        if unknown:
            quoted = ", ".join(f'"{name}"' for name in unknown)
            lines.append(f"warn: some health checks cannot be excluded: no matches for {quoted}")
        if any(chosen.values()):
            return web.Response(text="\n".join([*lines, f"{self._name} check failed", ""]), status=500)
        if "verbose" in request.query:
            return web.Response(text="\n".join([*lines, f"{self._name} check passed", ""]))
        return web.Response(text="ok")

    async def one(self, request: web.Request) -> web.Response:
        """Answer for one check."""
        text = self._checks().get(request.match_info["check"])
        if text is None:
            return web.Response(text="404 page not found\n", status=404)
        return web.Response(text=f"internal server error: {text}\n" if text else "ok", status=500 if text else 200)
