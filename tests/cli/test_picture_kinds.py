"""Pictures of every kind through the command line: packed, refused by name, skipped, noted."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Said
from tests.datasets.conftest import encode, picture
from tests.datasets.packed.test_decode_kinds import needs_avif, png
from transfer.artifacts import Images

Pack: TypeAlias = Callable[..., "tuple[Said, list[Images]]"]

NOT_PICTURES = {
    "cut.tif": (encode(picture(0, 90, 90), "TIFF")[:9000], "a TIFF picture that is damaged or cut"),
    "empty.gif": (b"", "an empty file: copy or download it again"),
    "drawing.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing: export it as"),
    "lfs.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "`git lfs pull`"),
    "page.bmp": (b"<!DOCTYPE html><html></html>", "a web page (HTML), not a picture"),
    "scan.pgm": (b"%PDF-1.7\n", "a PDF document: export its pages as pictures"),
    "text.jfif": (b"words", "a text, not a picture"),
    "video.jp2": (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "a video: export its frames as pictures"),
    "zip.webp": (b"PK\3\4" + b"\0" * 40, "a zip archive, not a picture: unpack it"),
}


@pytest.fixture
def pack(tmp_path: Path, invoke: Callable[..., Said], pipeline: Callable[..., Path]) -> Pack:
    """Pack the set at `tmp_path/set` with options of `data:`, and return what was packed."""

    def run(
        options: str = "", check: int = 0, key: str = "folder", name: str = "set"
    ) -> tuple[Said, list[Images]]:
        data = f"data: {{{key}: {tmp_path / name}, size: 16{options}}}\n"
        file = pipeline(data + "stages: {hog: {uses: extract/hog}}\n")
        said = invoke("run", file, "--store", tmp_path / "store", check=check)
        folders = sorted(
            (tmp_path / "store/images").glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime
        )
        return said, [Images(folder) for folder in folders]

    (tmp_path / "set").mkdir()
    return run


def pictures() -> dict[str, bytes]:
    """A flat picture of each kind, by name; its gray level is 20 times its place."""
    forms = {"jfif": "JPEG", "jpe": "JPEG", "jif": "JPEG", "gif": "GIF", "bmp": "BMP"}
    forms |= {"tif": "TIFF", "tiff": "TIFF", "jp2": "JPEG2000", "ppm": "PPM", "webp": "WEBP"}
    return {
        f"{place}.{suffix}": encode(Image.new("RGB", (20, 20), (20 * place,) * 3), form)
        for place, (suffix, form) in enumerate(forms.items())
    }


@pytest.mark.parametrize("form", ["raw", "jpeg"])
@pytest.mark.parametrize("place", ["folder", "misnamed", "zip", "tar", "shards"])
def test_pictures_of_every_kind_are_packed(
    tmp_path: Path, pack: Pack, place: str, form: str
) -> None:
    for name, data in pictures().items():
        suffix = ".jpg" if place == "misnamed" else ""
        (tmp_path / "set" / f"{name.partition('.')[0]}{suffix or Path(name).suffix}").write_bytes(
            data
        )
    key, name = "folder", "set"
    files = sorted((tmp_path / "set").iterdir(), key=lambda path: int(path.stem))
    if place == "zip":
        name = "set.zip"
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in files:
                archive.write(file, file.name)
    elif place in ("tar", "shards"):
        key, name = ("tar" if place == "shards" else "folder"), "set.tar"
        with tarfile.open(tmp_path / name, "w") as archive:
            for file in files:
                archive.add(file, file.name)
    said, sets = pack(f", pack: {form}", key=key, name=name)
    assert "(images 10)" in said.out
    (images,) = sets
    levels = {
        int(Path(name).stem): images.picture(row).mean() for row, name in enumerate(images.ids)
    }
    assert levels == pytest.approx({place: 20 * place for place in range(10)}, abs=3)


@needs_avif
def test_avif_is_packed(tmp_path: Path, pack: Pack) -> None:
    for name in ("a.avif", "b.jpg"):
        (tmp_path / "set" / name).write_bytes(encode(Image.new("RGB", (20, 20), "white"), "AVIF"))
    _, (images,) = pack()
    assert images.pixels.min() > 250


def test_what_is_no_picture_is_named_with_the_remedy(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "set/good.jpg").write_bytes(encode(picture(), "JPEG"))
    for name, (data, _) in NOT_PICTURES.items():
        (tmp_path / "set" / name).write_bytes(data)
    said, _ = pack(check=1)
    assert f"{len(NOT_PICTURES)} of 10 images of {tmp_path / 'set'} cannot be used:" in said.text
    lines = [line.strip() for line in said.text.splitlines()]
    for name, (_, reason) in NOT_PICTURES.items():
        line = next(line for line in lines if line.startswith(f"{name}: "))
        assert reason in line
    said, (images,) = pack(", on_bad_image: skip")
    assert images.ids == ["good.jpg"]
    assert f"{len(NOT_PICTURES)} of 10 images were skipped" in said.out


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_twelve_bits_in_sixteen_are_noted_and_a_range_makes_them_visible(
    tmp_path: Path,
    pack: Pack,
    invoke: Callable[..., Said],
    form: str,
) -> None:
    values = np.full((20, 20), 2048)
    (tmp_path / "set/deep.png").write_bytes(png(values, 0, 16))
    (tmp_path / "set/color.png").write_bytes(png(np.stack([values] * 3, 2), 2, 16))
    (tmp_path / "set/plain.jpg").write_bytes(encode(Image.new("L", (20, 20), 77), "JPEG"))
    said, sets = pack(f", pack: {form}")
    note = "16-bit images use only the values 0..4095 in 2 of 2"
    assert note in said.out
    shown = invoke("show", tmp_path / "pipeline.yaml", "set/all", "--store", tmp_path / "store").out
    assert note in shown
    assert "`value_range: [0, 4095]`" in shown
    assert [round(sets[0].picture(row).mean()) for row in range(3)] == [8, 8, 77]
    said, sets = pack(f", pack: {form}, value_range: [0, 4095]")
    assert "16-bit images" not in said.out
    assert [round(sets[-1].picture(row).mean()) for row in range(3)] == [128, 128, 77]
    said, _ = pack(f", pack: {form}, value_range: [0, 1000]")
    assert "2 of 2 images of more than 8 bits have values outside of" in said.out


def test_float_values_are_refused_by_name_until_a_range_is_given(
    tmp_path: Path, pack: Pack
) -> None:
    values = Image.fromarray(np.full((20, 20), 0.5, np.float32))
    values.save(tmp_path / "set/depth.tif")
    said, _ = pack(check=1)
    assert "depth.tif: its float32 values have no fixed range: set `value_range:" in said.text
    _, (images,) = pack(", value_range: [0.0, 1]")
    assert (images.pixels == 128).all()


@pytest.mark.parametrize("text", ["4095", "[1, 1]", "[2, 1]", "[0]", "[0, a]", "[0, .inf]", "{}"])
def test_a_faulty_range_is_refused(pack: Pack, text: str) -> None:
    said, _ = pack(f", value_range: {text}", check=2)
    assert "value_range" in said.text or "is not a finite number" in said.text


def test_a_range_without_an_effect_is_noted(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "set/a.jpg").write_bytes(encode(picture(), "JPEG"))
    said, _ = pack(", value_range: [0, 4095]")
    assert "has no effect: no image has more than 8 bits" in said.out


def test_the_limit_of_pixels_is_an_option(tmp_path: Path, pack: Pack) -> None:
    (tmp_path / "set/small.png").write_bytes(encode(picture(1, 10, 10)))
    (tmp_path / "set/large.png").write_bytes(encode(picture(1, 40, 30)))
    said, _ = pack(", max_pixels: 1000", check=1)
    assert "large.png: 40 x 30 pixels, more than 1,000: raise `max_pixels`" in said.text
    _, (images,) = pack(", max_pixels: 1000, on_bad_image: skip")
    assert images.ids == ["small.png"]
    _, sets = pack(", max_pixels: 1200")
    assert len(sets[-1]) == 2


def test_several_pages_are_noted(tmp_path: Path, pack: Pack) -> None:
    pages = [Image.new("L", (20, 20), level) for level in (200, 10)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    (tmp_path / "set/stack.tif").write_bytes(buffer.getvalue())
    said, (images,) = pack()
    assert (images.pixels == 200).all()
    assert "1 TIFF with several pages: only the first was packed" in said.out
