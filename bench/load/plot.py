"""Bar charts as SVG, readable on light and on dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 760
_NAMES: Final = 270
"""Where the bars begin."""
_FULL: Final = _WIDTH - _NAMES - 50
"""How long a bar of 1 is."""
_BAR: Final = 18
_GROUP: Final = 30
_STYLE: Final = (
    "text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 14px } "
    ".group { font-weight: 600 } .name { text-anchor: end } .grid { stroke: #d0d7de } "
    ".peer { fill: #8c959f } .ours { fill: #0969da }"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A name and a value from 0 to 1."""

    name: str
    value: float
    is_ours: bool


def bars(title: str, groups: Mapping[str, Sequence[Bar]]) -> str:
    """Draw horizontal bars in groups; give the SVG."""
    drawn, y = [], 40
    for group, found in groups.items():
        drawn.append(f'<text class="group" x="12" y="{y + 14}">{escape(group)}</text>')
        for bar in found:
            length = max(1, round(_FULL * min(1, bar.value)))
            kind = "ours" if bar.is_ours else "peer"
            drawn += (
                f'<text class="name" x="{_NAMES - 8}" y="{y + 14}">{escape(bar.name.replace("`", ""))}</text>',
                f'<rect class="{kind}" x="{_NAMES}" y="{y + 3}" width="{length}" height="{_BAR - 5}"/>',
                f'<text x="{_NAMES + length + 6}" y="{y + 14}">{bar.value:.2f}</text>',
            )
            y += _BAR
        y += _GROUP - _BAR
    grid = (
        f'<line class="grid" x1="{_NAMES + _FULL * part // 4}" x2="{_NAMES + _FULL * part // 4}" y1="34" y2="{y - 8}"/>'
        for part in range(5)
    )
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect width="{_WIDTH}" height="{y}" fill="#ffffff"/>',
            f'<text class="title" x="12" y="22">{escape(title)}</text>',
            *grid,
            *drawn,
            "</svg>\n",
        )
    )
