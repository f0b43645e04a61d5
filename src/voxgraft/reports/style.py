"""How the figures look: colors safe for the color-blind, markers and dashes that read in gray."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from voxgraft.files import atomic_path

INK = "#1a1a1a"
GRAY = "#5c5c5c"
LIGHT = "#d9d9d9"

WIDE_INCHES = 4.9
PANEL_INCHES = 3.25

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("s", "^", "D", "v", "P", "X", "p", "h")
_DASHES: tuple[Any, ...] = ((0, (5, 1.4)), (0, (1.2, 1.2)), (0, (6, 1.4, 1.2, 1.4)), "-")

RC: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10.5,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "text.color": INK,
    "text.parse_math": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
}


class Look(NamedTuple):
    """How one start is drawn, in every figure."""

    color: str
    marker: str
    dashes: Any


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One drawn picture.

    Attributes:
        name: Stem of its files.
        svg: Inline SVG without ids that could meet another's; empty for a raster picture.
        png: The same as PNG.
        alt: What it shows, in words.
        width_px: Width at which its letters have their natural size.
    """

    name: str
    svg: str
    png: bytes
    alt: str
    width_px: int


def looks(starts: list[str], reference: str) -> dict[str, Look]:
    """Return a look for each start; the reference is black, round and solid."""
    chosen = {}
    others = [start for start in starts if start != reference]
    if reference in starts:
        chosen[reference] = Look("#000000", "o", "-")
    for n, start in enumerate(others):
        dashes = _DASHES[(n + n // len(_COLORS)) % len(_DASHES)]
        chosen[start] = Look(_COLORS[n % len(_COLORS)], _MARKERS[n % len(_MARKERS)], dashes)
    return {start: chosen[start] for start in starts}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of so many inches, under this report's style."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(cast(Any, RC))
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, folder: Path, name: str, alt: str, *, raster: bool = False) -> Panel:
    """Write a figure as PNG and SVG into ``folder`` and return it for the page.

    Args:
        figure: What was drawn; call inside :func:`drawing`.
        folder: Where ``NAME.png`` and ``NAME.svg`` go.
        name: Stem of the files.
        alt: What it shows, in words.
        raster: Leave the SVG out of the page: the picture is mostly voxels.
    """
    buffer, png = io.StringIO(), io.BytesIO()
    dpi = 130 if raster else 220
    with mpl.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # The page itself names the characters that have no glyph: see missing_glyphs.
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "Voxgraft"})
        figure.set_layout_engine("none")  # keeps the places that the first drawing found
        figure.savefig(png, format="png", dpi=dpi, metadata={"Software": "Voxgraft"})
    svg = buffer.getvalue()
    for suffix, data in ((".svg", svg.encode()), (".png", png.getvalue())):
        with atomic_path(folder / f"{name}{suffix}") as temporary:
            temporary.write_bytes(data)
    inline = "" if raster else inline_svg(svg, name)
    width_px = round(float(figure.get_figwidth()) * 96)
    return Panel(name=name, svg=inline, png=png.getvalue(), alt=alt, width_px=width_px)


def missing_glyphs(texts: list[str]) -> str:
    """Return the characters of some texts that the figures' font cannot draw."""
    font = get_font(findfont("DejaVu Sans"))
    drawn = {character for text in texts for character in "".join(text.split())}
    return " ".join(sorted(c for c in drawn if not font.get_char_index(ord(c))))


def inline_svg(svg: str, name: str) -> str:
    """Return an SVG's element for use inside HTML: ids prefixed, no outer size, no metadata."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body)
    body = re.sub(r'\sid="([^"]+)"', rf' id="{name}-\1"', body)
    body = re.sub(r'(xlink:href|href)="#([^"]+)"', rf'href="#{name}-\2"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    head = '<svg class="plot" aria-hidden="true"'
    start = re.sub(r'\s(width|height|version)="[^"]*"', "", body[: body.index(">")])
    body = start.replace("<svg", head) + body[body.index(">") :]
    body = re.sub(r"(\d+\.\d{3})\d+", r"\1", body)
    return re.sub(r"\n\s*", " ", body).strip()
