"""A drawing of lines, circles and text, saved as SVG, PNG or PDF."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup

from transfer.errors import UsageError
from transfer.utils.output_file import write_output

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

FORMATS = (".png", ".svg", ".pdf")
SCALE, OVERSAMPLING = 2, 2  # pixels of a PNG for each unit, and how often each is sampled
DPI = 96 * SCALE
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")
SIZE = 12.0  # of text
# Signs that the font which Pillow ships does not have.
PLAIN_SIGNS = str.maketrans({"−": "-", "→": ">", "×": "x", "‹": "<", "›": ">"})
Anchor = Literal["start", "middle", "end"]
PIL_ANCHORS: dict[Anchor, str] = {"start": "ls", "middle": "ms", "end": "rs"}


def check_picture(path: Path) -> None:
    """Raise UsageError for a picture of another format, or in a folder that does not exist."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: a picture is one of {', '.join(FORMATS)}; choose such a name")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file for the picture")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist; make it first")


@dataclass(frozen=True)
class Line:
    """A straight line; `dash` is the length of its dashes, 0 without."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str
    width: float = 1.0
    dash: float = 0.0

    def svg(self) -> Markup:
        """The element of an SVG file."""
        svg = Markup(
            '<line x1="{:.2f}" y1="{:.2f}" x2="{:.2f}" y2="{:.2f}" stroke="{}" stroke-width="{}"'
            ' stroke-dasharray="{}"/>'
        )
        dash = f"{self.dash} {self.dash}" if self.dash else "none"
        return svg.format(self.x1, self.y1, self.x2, self.y2, self.color, self.width, dash)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw on pixels, `scale` for each unit."""
        width = max(1, round(self.width * scale))
        length = math.hypot(self.x2 - self.x1, self.y2 - self.y1)
        dash = self.dash or max(length, 1.0)
        for i in range(math.ceil(length / (2 * dash) - 1e-9)):
            shares = [min(1.0, step * dash / max(length, 1e-9)) for step in (2 * i, 2 * i + 1)]
            ends = [
                (
                    scale * (self.x1 + share * (self.x2 - self.x1)),
                    scale * (self.y1 + share * (self.y2 - self.y1)),
                )
                for share in shares
            ]
            draw.line(ends, fill=self.color, width=width)


@dataclass(frozen=True)
class Circle:
    """A circle, filled with `fill` and drawn in `color`."""

    x: float
    y: float
    radius: float
    color: str
    fill: str

    def svg(self) -> Markup:
        """The element of an SVG file."""
        svg = Markup(
            '<circle cx="{:.2f}" cy="{:.2f}" r="{}" fill="{}" stroke="{}" stroke-width="1.5"/>'
        )
        return svg.format(self.x, self.y, self.radius, self.fill, self.color)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw on pixels, `scale` for each unit."""
        center, radius = (self.x * scale, self.y * scale), (self.radius + 0.75) * scale
        draw.circle(center, radius, fill=self.fill, outline=self.color, width=round(1.5 * scale))


@dataclass(frozen=True)
class Text:
    """A line of text on the base line `y`."""

    x: float
    y: float
    text: str
    color: str
    anchor: Anchor = "start"
    size: float = SIZE

    def svg(self) -> Markup:
        """The element of an SVG file."""
        svg = Markup(
            '<text x="{:.2f}" y="{:.2f}" fill="{}" text-anchor="{}" font-size="{}">{}</text>'
        )
        return svg.format(self.x, self.y, self.color, self.anchor, self.size, self.text)

    def paint(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        """Draw on pixels, `scale` for each unit."""
        font, translate = _font(self.size * scale)
        place, anchor = (self.x * scale, self.y * scale), PIL_ANCHORS[self.anchor]
        draw.text(place, translate(self.text), fill=self.color, font=font, anchor=anchor)


@dataclass
class Drawing:
    """Shapes on a white page; the later lie on the earlier."""

    width: float
    height: float
    title: str  # for readers who cannot see it
    shapes: list[Line | Circle | Text] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the format of the path's suffix."""
        if path.suffix.lower() == ".svg":
            write_output(path, self.svg())
            return
        data, form = BytesIO(), path.suffix[1:].upper()
        self.image().save(data, form, dpi=(DPI, DPI), resolution=DPI, title=self.title)
        write_output(path, data.getvalue())

    def svg(self) -> str:
        """The SVG file."""
        svg = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}"'
            ' font-family="DejaVu Sans, Arial, Helvetica, sans-serif" role="img">'
            '<title>{2}</title><rect width="100%" height="100%" fill="#fff"/>{3}</svg>\n'
        )
        shapes = Markup("\n").join(shape.svg() for shape in self.shapes)
        return str(svg.format(round(self.width), round(self.height), self.title, shapes))

    def image(self) -> Any:
        """The picture as a PIL image."""
        from PIL import Image, ImageDraw

        scale = SCALE * OVERSAMPLING
        size = round(self.width), round(self.height)
        large = Image.new("RGB", (size[0] * scale, size[1] * scale), "#fff")
        draw = ImageDraw.Draw(large)
        for shape in self.shapes:
            shape.paint(draw, scale)
        return large.resize((size[0] * SCALE, size[1] * SCALE), Image.Resampling.LANCZOS)


def text_width(text: str, size: float = SIZE) -> float:
    """The width of a line of text, roughly that of the font in an SVG viewer."""
    font, translate = _font(size * SCALE)
    return font.getlength(translate(text)) / SCALE


@cache
def _font(
    size: float,
) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, Callable[[str], str]]:
    """A font of the system, else that of Pillow, and how text is written in it."""
    from PIL import ImageFont

    for name in FONTS:
        try:
            return ImageFont.truetype(name, size), str
        except OSError:
            continue
    return ImageFont.load_default(size), lambda text: text.translate(PLAIN_SIGNS)
