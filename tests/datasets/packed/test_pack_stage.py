from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.datasets.conftest import encode, fill, picture, split_of, write_h5
from transfer.artifacts import Images
from transfer.datasets.cards import card_files, load_card
from transfer.datasets.drawings import render
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed import decode_workers
from transfer.datasets.packed import pack_stage as pack_module
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.readers.base import Split, Survey
from transfer.datasets.readers.hdf5 import Hdf5Source
from transfer.datasets.spec import ImageSpec
from transfer.errors import Interrupted, TransferError, UsageError
from transfer.stage.context import StageContext
from transfer.utils.progress import Progress
from transfer.utils.stamp_cache import StampCache


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


# What is packed


def test_drawings_are_packed_as_they_are_drawn(
    plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    images = packed(plan("test", card="drawings", size=None, limit=30))
    rows = [int(one.removeprefix("test/")) for one in images.ids]
    assert images.size == render.SIZE
    assert (np.asarray(images.pixels) == render.render("test", rows)).all()
    assert images.labels is not None
    assert images.labels.tolist() == render.labels("test")[rows].tolist()
    assert images.classes == list(render.CLASSES)


def test_a_limit_is_a_draw_that_is_the_same_everywhere(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = fill(tmp_path / "set", *[f"{number % 4}/{number:03}.png" for number in range(120)])
    whole, some = (
        packed(plan(folder=folder), "whole"),
        packed(plan(folder=folder, limit=12), "some"),
    )
    rows = [whole.ids.index(one) for one in some.ids]
    assert rows == [7, 8, 10, 22, 33, 45, 48, 50, 89, 94, 95, 97]
    assert (whole.pixels[rows] == some.pixels).all()
    assert whole.labels is not None
    assert some.labels is not None
    assert (whole.labels[rows] == some.labels).all()
    assert some.classes == whole.classes


@pytest.mark.parametrize("limit", [1, 2, 7, 50, 500])
def test_a_limit_is_kept_and_a_small_draw_is_part_of_a_larger_one(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images], limit: int
) -> None:
    file = write_h5(tmp_path / "set.h5", train=split_of(20))
    pack = plan(hdf5=file, limit=limit)
    images, next_one = packed(pack, "a"), packed(plan(hdf5=file, limit=limit + 1), "b")
    assert len(images) == pack.count == min(limit, 20)
    assert set(images.ids) <= set(next_one.ids)


def test_the_draw_favors_no_place_in_the_set() -> None:
    order = np.random.RandomState(0).permutation(10_000)[:2_000]
    counts = np.histogram(order, bins=10, range=(0, 10_000))[0]
    assert ((counts - 200) ** 2 / 160).sum() < 22  # chi-square, 9 degrees of freedom, p = 0.01


def test_ids_are_unique_and_stable(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    folder = fill(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png")
    train, test = (
        packed(plan("train", folder=folder), "train"),
        packed(plan("test", folder=folder), "test"),
    )
    assert train.ids == ["train/a/1.png", "train/b/1.png"]
    assert test.ids == ["test/a/1.png"]
    assert packed(plan("train", folder=folder, size=24), "again").ids == train.ids


def test_the_same_files_give_the_same_bytes(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    names = [f"{number}.png" for number in range(9)]
    one = packed(plan(folder=fill(tmp_path / "one", *names)), "one")
    (tmp_path / "two").mkdir()
    for name in reversed(names):
        shutil.copy(tmp_path / "one" / name, tmp_path / "two" / name)
    two = packed(plan(folder=tmp_path / "two"), "two")
    assert digests(one.folder) == digests(two.folder)
    assert plan(folder=tmp_path / "one").identity() == plan(folder=tmp_path / "two").identity()


def test_every_option_that_changes_the_result_is_part_of_its_identity(
    tmp_path: Path, plan: Callable[..., Pack]
) -> None:
    folder = fill(tmp_path / "set", "a/1.png", "b/2.png", "b/3.png")
    specs = [{}, {"size": 24}, {"limit": 2}, {"labels": False}]
    identities = [str(plan(folder=folder, **spec).identity()) for spec in specs]
    assert len(set(identities)) == len(specs)


# Going on after an interruption


@pytest.mark.parametrize("kind", ["folder", "hdf5", "drawings"])
@pytest.mark.parametrize("damage", ["none", "half a block more", "cut", "no pixels"])
def test_a_packing_that_was_stopped_goes_on_to_the_same_bytes(
    tmp_path: Path,
    plan: Callable[..., Pack],
    work: Callable[..., StageContext],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    damage: str,
) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_IMAGES", 3)
    if kind == "folder":
        pack = plan(folder=fill(tmp_path / "set", *[f"{n % 2}/{n}.png" for n in range(11)]))
    elif kind == "hdf5":
        pack = plan(hdf5=write_h5(tmp_path / "set.h5", train=split_of(11)))
    else:
        pack = plan("test", card="drawings", size=32, limit=11)
    undisturbed = work("undisturbed")
    pack.run(undisturbed)

    job = work("disturbed")
    advance, blocks = Progress.advance, []

    def stop_in_the_second_block(progress: Progress, count: int) -> None:
        advance(progress, count)
        if ": packing" in progress.task:
            blocks.append(count)
        job.stop.number = 15 if len(blocks) == 2 else 0

    monkeypatch.setattr(Progress, "advance", stop_in_the_second_block)
    with pytest.raises(Interrupted):
        pack.run(job)
    monkeypatch.setattr(Progress, "advance", advance)
    assert job.saved_progress()["images"] == 6
    assert not list(job.folder.iterdir())
    pixels = job.checkpoints / "images.npy"
    if damage == "half a block more":
        with open(pixels, "ab") as file:
            file.write(b"?" * 1000)
    elif damage == "cut":
        os.truncate(pixels, pixels.stat().st_size - 5)
    elif damage == "no pixels":
        pixels.unlink()
    again = work("disturbed")
    blocks.clear()
    monkeypatch.setattr(
        Progress, "advance", lambda one, count: ": packing" in one.task and blocks.append(count)
    )
    pack.run(again)
    assert sum(blocks) == (5 if damage in ("none", "half a block more") else 11)
    assert digests(again.folder) == digests(undisturbed.folder)


def test_a_progress_file_that_a_kill_left_half_written_starts_anew(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext]
) -> None:
    job = work()
    (job.checkpoints / "progress.json").write_text('{"images": 1')
    (job.checkpoints / "images.npy").write_bytes(b"x" * 100)
    plan(folder=fill(tmp_path / "set", "a.png", "b.png")).run(job)
    assert len(Images(job.folder)) == 2


def test_memory_does_not_grow_with_the_set(
    tmp_path: Path,
    work: Callable[..., StageContext],
    plan: Callable[..., Pack],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 1 << 20)
    encoded = np.frombuffer(encode(picture(1, 64, 64)), dtype=np.uint8)
    peaks = []
    for count in (100, 800):
        offsets = np.arange(count + 1) * len(encoded)
        write_h5(
            tmp_path / f"{count}.h5", train={"jpeg": np.tile(encoded, count), "offsets": offsets}
        )
        pack, job = plan(hdf5=tmp_path / f"{count}.h5", size=64), work(str(count))
        tracemalloc.start()
        pack.run(job)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (
        1 << 20
    )  # the packed set grew by 8.6 MB, its file by as much again


# What a pipeline file may say


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("drawings", {"card": "drawings"}),
        ("./photos", {"folder": "./photos"}),
        ("~/photos", {"folder": "~/photos"}),
        ("photos.h5", {"hdf5": "photos.h5"}),
        ("some/PHOTOS.HDF5", {"hdf5": "some/PHOTOS.HDF5"}),
    ],
)
def test_a_text_is_a_card_a_folder_or_an_hdf5_file(text: str, place: dict[str, str]) -> None:
    spec = ImageSpec.model_validate(text)
    assert spec.model_dump(exclude_defaults=True) == place
    assert spec.location == text


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"card": "a", "folder": "b"},
        {"folder": ""},
        "",
        {"folder": "a", "size": 7},
        {"folder": "a", "size": 1025},
        {"folder": "a", "limit": 0},
        {"folder": "a", "limit": "3"},
        {"folder": "a", "color": True},
        {"hdf5": "a.h5", "labels": False},
        {"folder": 3},
        None,
    ],
)
def test_what_names_no_place_or_an_impossible_one_is_refused(spec: object) -> None:
    with pytest.raises(ValidationError):
        ImageSpec.model_validate(spec)


def test_paths_start_at_the_pipeline_file(tmp_path: Path, sets: Callable[[], ImageSets]) -> None:
    fill(tmp_path / "photos", "1.png")
    assert sets().locate(ImageSpec(folder="x/../photos"))[0].location == str(tmp_path / "photos")
    assert sets().survey(ImageSpec(folder="photos")).splits["all"].count == 1
    assert (
        sets()
        .locate(ImageSpec(folder="~nobody-of-this-name/x"))[0]
        .location.startswith(str(tmp_path))
    )


@pytest.mark.parametrize(
    ("splits", "wanted", "explicit", "found"),
    [
        ({"train", "test"}, "unlabeled", False, "train"),
        ({"unlabeled", "train"}, "unlabeled", False, "unlabeled"),
        ({"all"}, "unlabeled", False, "all"),
        ({"train", "test"}, "test", True, "test"),
        ({"all"}, "train", False, None),
        ({"train"}, "unlabeled", True, None),
        ({"val", "test"}, "unlabeled", False, None),
    ],
)
def test_a_split_stands_in_for_unlabeled_and_for_nothing_else(
    splits: set[str], wanted: str, explicit: bool, found: str | None
) -> None:
    survey = Survey({name: Split(1, True, "") for name in sorted(splits)})
    if found is None:
        with pytest.raises(UsageError, match=f"has no split '{wanted}'"):
            survey.resolve_split(wanted, explicit)
    else:
        assert survey.resolve_split(wanted, explicit) == found


def test_a_stage_that_needs_labels_is_told_where_there_are_none(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    spec = ImageSpec(folder=str(fill(tmp_path / "set", "train/1.png")), size=16)
    with pytest.raises(UsageError, match="split 'train', has no labels, and this stage needs them"):
        sets().pack(spec, "train", labeled=True)
    assert sets().pack(spec, "train", labeled=False).count == 1


# Cards


@pytest.mark.parametrize("name", sorted(card_files()))
def test_every_shipped_card_can_be_read_and_bears_its_files_name(name: str) -> None:
    card, _ = load_card(name)
    assert card.name == name
    assert card.title
    assert card.layout


def test_the_card_of_drawings_says_what_is_drawn() -> None:
    card, _ = load_card("drawings")
    assert card.splits == render.SPLITS
    assert card.classes == list(render.CLASSES)
    assert card.size == render.SIZE


def test_a_card_beside_the_pipeline_file_names_files_beside_itself(
    tmp_path: Path, sets: Callable[[], ImageSets]
) -> None:
    fill(tmp_path / "data" / "pets", "train/cat/1.png", "test/cat/1.png")
    card = "name: pets\ntitle: two cats\nreader: folder\nlayout: as it is\npath: pets\nsize: 48\n"
    (tmp_path / "data" / "pets.yaml").write_text(card)
    pack = sets().pack(ImageSpec(card="pets"), "test", labeled=True)
    assert (pack.origin.location, pack.size) == (str(tmp_path / "data" / "pets"), 48)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntitle: [", "not a readable card"),
        ("name: x", "title: Field required"),
        ("- a", "card: "),
        ("", "card: "),
        ("name: !!python/object:os.system x", "not a readable card"),
        ("name: 2020-99-99", "x.yaml: "),
        ("name: x\ntitle: x\nreader: magic\nlayout: x", "reader: "),
        ("name: x\ntitle: x\nreader: folder\nlayout: x\nsize: 100000", "size: "),
        ("name: x\nname: y", "not a readable card"),
    ],
)
def test_a_faulty_card_is_told_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as told:
        load_card("x", tmp_path)
    assert "x.yaml" in str(told.value)


@pytest.mark.parametrize("name", ["folder", "hdf5"])
def test_a_layout_is_no_set(name: str, plan: Callable[..., Pack]) -> None:
    with pytest.raises(
        UsageError, match=f"'{name}' is a layout, not a set: write `data: {{{name}: PATH}}`"
    ):
        plan(card=name)


def test_an_unknown_card_is_told_with_the_nearest(plan: Callable[..., Pack]) -> None:
    with pytest.raises(UsageError, match="no image set called 'drawing'; did you mean 'drawings'"):
        plan(card="drawing")


# What is imported


def test_planning_imports_no_heavy_library(tmp_path: Path) -> None:
    fill(tmp_path / "set", "1.png")
    modules = [
        "spec",
        "readers.base",
        "cards",
        "packed.pack_stage",
        "readers.folder",
        "readers.hdf5",
        "readers.drawings",
    ]
    code = (
        "import sys\n"
        + "".join(f"import transfer.datasets.{module}\n" for module in modules)
        + "from pathlib import Path\n"
        + "from transfer.datasets.image_sets import ImageSets\n"
        + "from transfer.datasets.spec import ImageSpec\n"
        + "found = ImageSets(Path('memory'), Path.cwd())\n"
        + "found.pack(ImageSpec(folder='set'), 'unlabeled', False).identity()\n"
        + "found.pack(ImageSpec(card='drawings'), 'train', True).identity()\n"
        + "heavy = {'numpy', 'torch', 'h5py', 'PIL', 'faiss', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        + "print(*sorted(heavy))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.stdout, ended.stderr) == ("\n", "")


# Real photographs


@pytest.mark.photos
@pytest.mark.skipif(
    not os.environ.get("TRANSFER_PHOTOS"), reason="TRANSFER_PHOTOS names no folder of photographs"
)
def test_photographs_pack(
    plan: Callable[..., Pack], packed: Callable[..., Images], tmp_path: Path
) -> None:
    files = sorted(Path(os.environ["TRANSFER_PHOTOS"]).glob("*.h5"))
    assert files
    for file in files:
        survey = Hdf5Source(file).survey(StampCache(tmp_path / "memory"))
        for split, facts in survey.splits.items():
            images = packed(plan(split, hdf5=file, size=None, limit=300), f"{file.stem} {split}")
            assert images.pixels.shape == (min(300, facts.count), survey.size, survey.size, 3)
            assert images.labels is not None
            assert (
                0
                <= images.labels.min()
                <= images.labels.max()
                < len(images.classes)
                == len(survey.classes)
            )
            assert len(set(images.ids)) == len(images)
            pixels = np.asarray(images.pixels)
            assert 60 < pixels.mean() < 190
            assert pixels.std(axis=(1, 2, 3)).min() > 1


@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_bad_images_are_skipped_and_recorded_where_that_is_asked_for(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext], form: str
) -> None:
    fill(tmp_path / "set", *[f"{number % 2}/{number:02}.png" for number in range(9)])
    (tmp_path / "set/0/04.png").write_bytes(b"no picture")
    (tmp_path / "set/1/07.png").write_bytes((tmp_path / "set/1/07.png").read_bytes()[:60])
    pack, job = plan(folder=tmp_path / "set", on_bad_image="skip", pack=form), work()
    pack.run(job)
    images = Images(job.folder)
    assert len(images) == 7
    assert "0/04.png" not in images.ids
    assert [one.partition(":")[0] for one in images.card.skipped] == ["0/04.png", "1/07.png"]
    assert images.labels.tolist() == [int(name[0]) for name in images.ids]
    assert job.figures["skipped"] == 2
    assert "2 of 9 images were skipped" in job.notes[0]
    assert [images.picture(row).shape for row in range(7)] == [(16, 16, 3)] * 7
    assert pack.identity() != plan(folder=tmp_path / "set", pack=form).identity()


def test_a_set_of_which_nothing_can_be_used_is_refused_even_so(
    tmp_path: Path, plan: Callable[..., Pack], work: Callable[..., StageContext]
) -> None:
    fill(tmp_path / "set", "a.png", "b.png")
    for path in (tmp_path / "set").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(TransferError, match="none of the 2 images"):
        plan(folder=tmp_path / "set", on_bad_image="skip").run(work())


def test_stretched_images_keep_their_edges(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    (tmp_path / "set").mkdir()
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, :24], wide[:, 72:] = 255, 128
    Image.fromarray(wide).save(tmp_path / "set/wide.png")
    stretched = packed(plan(folder=tmp_path / "set", fit="stretch"), "stretch").pixels[0]
    cropped = packed(plan(folder=tmp_path / "set"), "crop").pixels[0]
    assert (stretched[:, 1] == 255).all()
    assert (stretched[:, -2] == 128).all()
    assert (cropped == 0).all()


def test_processes_give_what_threads_give(
    tmp_path: Path,
    plan: Callable[..., Pack],
    packed: Callable[..., Images],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    fill(tmp_path / "set", *[f"{number:03}.png" for number in range(40)])
    threads = packed(plan(folder=tmp_path / "set"), "threads").pixels
    monkeypatch.setattr(decode_workers, "FORKING", 1)
    monkeypatch.setattr(decode_workers, "CHUNK", 3)
    assert np.array_equal(packed(plan(folder=tmp_path / "set"), "processes").pixels, threads)
