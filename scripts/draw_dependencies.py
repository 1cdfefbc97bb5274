"""Draw which rooms of the package import which, from the imports: writes docs/figures/dependencies.svg."""

import ast
import sys
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "docs" / "figures" / "dependencies.svg"

_BOX, _GAP, _LINE, _MARGIN = 104, 16, 62, 24
"""Width of a box, gap between boxes, height of a row and margin, in pixels."""

Layers = Sequence[Sequence[str]]


def main() -> int:
    """Write the drawing and print its path."""
    DRAWING.write_text(drawing(), encoding="utf-8")
    print(DRAWING.relative_to(ROOT))
    return 0


def drawing() -> str:
    """Return the drawing as SVG: the rooms on the left, those of the pipeline on the right."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    parts, left, height = [], _MARGIN, 0
    for contract in contracts:
        (container,) = contract["containers"]
        layers = [[room.strip() for room in layer.split("|")] for layer in contract["layers"]]
        width = max(3, *(len(layer) for layer in layers)) * (_BOX + _GAP)
        edges = direct_edges(imports_between(container, [room for layer in layers for room in layer]))
        parts += _panel(f"{container}: imports go down only", layers, edges, left, width)
        left, height = left + width + 2 * _MARGIN, max(height, len(layers))
    size = f'width="{left}" height="{height * _LINE + 2 * _MARGIN + 10}"'
    style = "text { font: 13px sans-serif; text-anchor: middle } .title { font-weight: bold; text-anchor: start }"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style><rect {size} fill="white"/>'
    arrow = '<path d="M0,0 L8,4 L0,8 z" fill="#888"/>'
    marker = (
        f'<defs><marker id="a" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">{arrow}</marker></defs>'
    )
    return "\n".join([head, marker, *parts, "</svg>", ""])


def imports_between(container: str, rooms: Sequence[str]) -> dict[str, set[str]]:
    """Return room → the rooms that its files import, anywhere in them."""
    found: dict[str, set[str]] = {room: set() for room in rooms}
    folder = ROOT / container.replace(".", "/")
    for room in rooms:
        for path in [folder / f"{room}.py", *sorted((folder / room).rglob("*.py"))]:
            if path.exists():
                found[room] |= {_room_of(name, container) for name in _imported(path)} & set(rooms) - {room}
    return found


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _room_of(module: str, container: str) -> str:
    return module.removeprefix(f"{container}.").split(".")[0] if module.startswith(f"{container}.") else ""


def direct_edges(graph: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows that do not follow from others (the transitive reduction), sorted."""

    def reachable(room: str) -> set[str]:
        return set().union(*({each} | reachable(each) for each in graph[room]))

    return sorted(
        (room, each)
        for room in graph
        for each in graph[room]
        if not any(each in reachable(other) for other in graph[room] - {each})
    )


def _panel(title: str, layers: Layers, edges: Sequence[tuple[str, str]], left: int, width: int) -> list[str]:
    places = {}
    for row, layer in enumerate(layers):
        start = left + (width - len(layer) * (_BOX + _GAP) + _GAP) / 2
        if len(layer) == 1:  # Staggered, so that no arrow passes behind the boxes of a column.
            start += (-_BOX, 0, _BOX)[row % 3]
        for column, room in enumerate(layer):
            places[room] = (start + column * (_BOX + _GAP) + _BOX / 2, _MARGIN + 36 + row * _LINE)
    parts = [f'<text class="title" x="{left}" y="{_MARGIN}">{escape(title)}</text>']
    for upper, lower in edges:
        (x1, y1), (x2, y2) = places[upper], places[lower]
        parts.append(
            f'<line x1="{x1:g}" y1="{y1 + 14:g}" x2="{x2:g}" y2="{y2 - 14:g}" stroke="#888" marker-end="url(#a)"/>'
        )
    for room, (x, y) in places.items():
        box = f'x="{x - _BOX / 2:g}" y="{y - 14:g}" width="{_BOX}" height="28" rx="5"'
        parts.append(f'<rect {box} fill="#e8eef7" stroke="#5470a0"/>')
        parts.append(f'<text x="{x:g}" y="{y + 4:g}">{escape(room)}</text>')
    return parts


if __name__ == "__main__":
    sys.exit(main())
