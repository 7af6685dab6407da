"""The costs a pod over the number of pods, as an SVG drawn by hand: no plotting library for one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

_WIDTH, _HEIGHT, _MARGIN = 640, 240, 56
_COLOURS = ("#1f6fb2", "#b2501f", "#3a8f3a", "#7a4fa3", "#5a5a5a")


def draw(scale: Sequence[dict[str, float]]) -> str:
    """Return a picture with one panel a cost; both axes are logarithmic, a flat line means a flat cost."""
    names = [name for name in scale[0] if name != "pods"]
    panels = [_panel(scale, name, row, colour) for row, (name, colour) in enumerate(zip(names, _COLOURS, strict=True))]
    height = _HEIGHT * len(names)
    size = f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{height}" fill="white"/>', *panels, "</svg>\n"])


def _panel(scale: Sequence[dict[str, float]], name: str, row: int, colour: str) -> str:
    counts = [one["pods"] for one in scale]
    values = [max(one[name], 0.001) for one in scale]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values) * 1.001))
    top = row * _HEIGHT + 30
    bottom = (row + 1) * _HEIGHT - 30

    def x(count: float) -> float:
        return _MARGIN + (_WIDTH - 2 * _MARGIN) * math.log10(count) / max(1.0, math.log10(counts[-1]))

    def y(value: float) -> float:
        return bottom - (bottom - top) * math.log10(value / low) / math.log10(high / low)

    parts = [f'<text x="{_MARGIN}" y="{top - 12}" font-weight="bold">{name}</text>']
    power = low
    while power <= high * 1.001:
        parts.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y(power):.1f}" y2="{y(power):.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{_MARGIN - 6}" y="{y(power) + 4:.1f}" text-anchor="end">{power:g}</text>')
        power *= 10
    points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in zip(counts, values, strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for count, value in zip(counts, values, strict=True):
        parts.append(f'<circle cx="{x(count):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<text x="{x(count):.1f}" y="{y(value) - 8:.1f}" text-anchor="middle">{value:.3g}</text>')
        parts.append(f'<text x="{x(count):.1f}" y="{bottom + 16}" text-anchor="middle">{count:g}</text>')
    return "\n".join(parts)
