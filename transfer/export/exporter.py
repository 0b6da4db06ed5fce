"""`transfer export`: a model leaves the store in forms that others can load, with a card that says what it is.

All files are written into a folder beside the wanted one, loaded again, compared with the model, and renamed together.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.api import Pipeline
from transfer.artifacts import Images, Model, read_json, write_json
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import TransferError, UsageError
from transfer.execution.status import find_manifest
from transfer.export.model_card import ExportFacts, model_card, usage_code
from transfer.stage.base import PlannedStage, upstream_stages
from transfer.utils.files import free_bytes
from transfer.utils.formatting import file_size
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.export.loaded_model import LoadedModel

NOISE, REAL = (
    2,
    4,
)  # images that the forms are compared on: of noise, and of the model's own set where it is packed
FULL = 1 << 20  # a disk with less than this many bytes free counts as full


def export(pipeline: Pipeline, name: str, folder: Path, onnx: bool = False) -> dict[str, Any]:
    """Write the Model of stage `name` into `folder`, which must not be there or be empty; what was written."""
    one, artifact = _model(pipeline, name)
    _refuse(folder)
    if onnx:
        from transfer.export.formats import require_onnx

        require_onnx()
    weights = (artifact.folder / "model.safetensors").stat().st_size
    needed = (4 if onnx else 3) * weights + FULL
    if (free := free_bytes(folder.absolute().parent)) < needed:
        raise TransferError(
            f"{folder}: the export takes up to {file_size(needed)}, and {file_size(free)} are free on that disk"
        )
    with _built(folder) as building:
        written = _write(pipeline, one, artifact, building, folder.resolve().name, onnx)
    return {"stage": one.label, "folder": str(folder), **written}


def export_text(found: dict[str, Any]) -> str:
    """What was written, what was compared, and how to use it."""
    width = max(len(name) for name in found["files"])
    lines = [f"{found['stage']} is exported to {found['folder']}"]
    for name, facts in found["files"].items():
        lines.append(f"  {name:<{width}}  {file_size(facts['bytes']):>9}  {facts['what']}".rstrip())
    worst = ", ".join(f"{name} {value:.1e}" for name, value in found["differences"].items())
    lines += [
        f"Loaded again and compared with the model on {found['images']}. Largest difference, of the largest output",
        f"({found['tolerance']:g} is allowed): {worst}",
        "",
    ]
    lines += [*usage_code(found["folder"], found["values"]).splitlines()]
    return "\n".join(lines)


def _model(pipeline: Pipeline, name: str) -> tuple[PlannedStage, Model]:
    """The stage and its finished, undamaged Model; an error says what it makes instead, or how to make it."""
    one = pipeline.stage(name)
    if one.stage.produces is not Model:
        models = [other.label for other in pipeline.plan if other.stage.produces is Model]
        have = (
            f"stages that make one: {', '.join(models)}"
            if models
            else "no stage of the file makes one"
        )
        raise UsageError(
            f"{name} makes {one.stage.produces.__name__}, and what is exported is a Model; {have}"
        )
    artifact = pipeline.artifact(name)
    manifest = pipeline.store.find(one.uses, one.key)
    pipeline.store.check(artifact.folder, manifest)
    return one, artifact


def _refuse(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: name a folder that is, or that is not there yet")
    if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
        raise UsageError(
            f"{folder} is a file: name a folder that is empty, or that is not there yet"
        )
    if folder.resolve() == Path.cwd():
        raise UsageError(
            f"{folder} is the folder that you are in, which the export would replace: name another one"
        )
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UsageError(f"{folder} cannot be made: {above} is a file")


@contextmanager
def _built(folder: Path) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end; after any other end it is gone."""
    target = folder.resolve()
    building = target.with_name(f".{target.name}.{os.getpid()}.exporting")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(
            f".{target.name}.*.exporting"
        ):  # by exports that were killed
            if not _runs(left.name.split(".")[-2]):
                shutil.rmtree(left, ignore_errors=True)
        building.mkdir()
        yield building
        for path in [*building.iterdir(), building]:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        _refuse(folder)  # somebody may have filled it meanwhile
        os.rename(building, target)
    except Exception as error:  # libraries often hide the reason when a disk is full
        free = free_bytes(target.parent)
        if free >= FULL and getattr(error, "errno", None) != errno.ENOSPC:
            raise
        told = f"the disk is full ({free:,} bytes free at {target.parent}); nothing is left of this export"
        raise TransferError(f"{folder}: {told}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, OSError):
        return True  # somebody else's
    return True


def _write(
    pipeline: Pipeline, one: PlannedStage, artifact: Model, folder: Path, name: str, onnx: bool
) -> dict[str, Any]:
    """All files of the export that will be called `name`, each form compared; what is told of them."""
    from transfer.export import formats
    from transfer.export.loaded_model import load_model
    from transfer.models.torchvision_compat import describe

    shutil.copyfile(artifact.folder / "model.safetensors", folder / "model.safetensors")
    write_json(folder / "model.json", read_json(artifact.folder / "model.json") | {"fit": _fit(one)})
    model = load_model(folder)
    pixels, compared = _pictures(pipeline, one, model)
    # The store's own network is what all are compared with, so that a bad copy is found too.
    forms = formats.write_formats(folder, model, artifact.network(), pixels, onnx)
    side, values = model.card.size, forms.values
    takes = (
        f"uint8 pixels (B, 3, {side}, {side}) to embeddings (B, {values}), normalization included"
    )
    shown, in_card = describe(forms.fit)
    what = {
        "model.safetensors": "the weights, for transfer.load_model",
        "model.json": "how the network is built and fed, for transfer.load_model",
        formats.STATE_DICT: shown,
        formats.PROGRAM: f"torch.export.load: {takes}",
        formats.ONNX: f"ONNX: {takes}",
    }
    what = {file: said for file, said in what.items() if (folder / file).is_file()}
    worst = ", ".join(f"`{file}` {value:.1e}" for file, value in forms.differences.items())
    checked = (
        f"Each was loaded again and compared with the model on {compared}. Largest difference, relative to the largest "
        f"output ({formats.TOLERANCE:g} is allowed): {worst}."
    )
    files = "\n".join(f"- `{file}`: {said}" for file, said in what.items())
    facts = ExportFacts(
        model.card, values, forms.layer, name, "\n\n".join([files, checked, in_card])
    )
    (folder / "README.md").write_text(model_card(pipeline, one, facts), encoding="utf-8")
    what = {"README.md": "the model card", **what}
    return {
        "files": {
            file: {"bytes": (folder / file).stat().st_size, "what": said}
            for file, said in what.items()
        },
        "differences": forms.differences,
        "tolerance": formats.TOLERANCE,
        "images": compared,
        "values": values,
    }


def _fit(one: PlannedStage) -> str:
    """How the images that the model learned from were made squares."""
    packs = [
        pack
        for stage in reversed(upstream_stages(one, images=True))
        for pack in stage.images.values()
    ]
    return packs[0].stage.spec.fit if packs else "crop"


def _pictures(pipeline: Pipeline, one: PlannedStage, model: LoadedModel) -> tuple[Tensor, str]:
    """uint8 (B, 3, S, S) to compare on: noise of a fixed seed, and packed images where there are any; in words too."""
    side = model.card.size
    random = np.random.RandomState(0)
    noise = [random.randint(0, 256, (side, side, 3)).astype(np.uint8) for _ in range(NOISE)]
    told = f"{NOISE} images of noise"
    for stage in reversed(upstream_stages(one, images=True)):
        for pack in stage.images.values():
            if find_manifest(pipeline.store, pack) is None or not isinstance(pack.stage, Pack):
                continue
            images = Images(pipeline.store.folder(pack.uses, pack.key))
            real = [images.picture(row) for row in range(min(REAL, len(images)))]
            return model.pixels([*real, *noise]), f"{len(real)} images of {pack.label} and {told}"
    return model.pixels(noise), told
