"""`transfer export`: write a model in formats that other libraries load, with a model card.

All files are written into a draft folder beside the target, loaded again, compared with the model,
and then renamed together (`target_folder.py`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.api import Pipeline
from transfer.artifacts import Images, Model, read_json, write_json
from transfer.datasets.packed.pack_stage import Pack
from transfer.errors import TransferError, UsageError
from transfer.execution.status import find_manifest
from transfer.export.model_card import ExportFacts, model_card, usage_code
from transfer.export.target_folder import check_target, draft_folder
from transfer.stage.base import PlannedStage
from transfer.stage.upstream import upstream_stages
from transfer.utils.files import FULL, free_bytes
from transfer.utils.formatting import file_size, plural
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.export.loaded_model import LoadedModel

NOISE_IMAGES = 2  # images of noise that the formats are compared on
REAL_IMAGES = 4  # images of the model's training set that they are compared on, where it is packed


def export(
    pipeline: Pipeline, name: str, folder: Path, onnx: bool = False, force: bool = False
) -> dict[str, Any]:
    """Write the Model of a stage into a folder, and return what was written.

    Args:
        pipeline: with its store.
        name: of the stage.
        folder: must be empty or missing, or with `force` an earlier export.
        onnx: write `model.onnx` too.
        force: replace an earlier export.
    """
    planned, artifact = _finished_model(pipeline, name)
    check_target(folder, force)
    if onnx:
        from transfer.export.formats import require_onnx

        require_onnx()
    weights = (artifact.folder / "model.safetensors").stat().st_size
    needed = (4 if onnx else 3) * weights + FULL
    if (free := free_bytes(folder.absolute().parent)) < needed:
        raise TransferError(
            f"{folder}: the export needs up to {file_size(needed)}, but only {file_size(free)} are "
            "free on that disk"
        )
    with draft_folder(folder, force) as draft:
        written = _write_files(pipeline, planned, artifact, draft, folder.resolve().name, onnx)
    return {"stage": planned.label, "folder": str(folder), **written}


def export_text(result: dict[str, Any]) -> str:
    """Describe on screen what `export` wrote, how it was compared, and how to use it."""
    width = max(len(name) for name in result["files"])
    lines = [f"Exported {result['stage']} to {result['folder']}"]
    for name, facts in result["files"].items():
        lines.append(f"  {name:<{width}}  {file_size(facts['bytes']):>9}  {facts['what']}".rstrip())
    differences = [f"{name} {value:.1e}" for name, value in result["differences"].items()]
    lines += [
        f"Each file was loaded again and compared with the model on {result['images']}.",
        f"Largest difference relative to the largest output (limit {result['tolerance']:g}): "
        f"{', '.join(differences)}",
        "",
        *usage_code(result["folder"], result["values"]).splitlines(),
    ]
    return "\n".join(lines)


def _finished_model(pipeline: Pipeline, name: str) -> tuple[PlannedStage[Any], Model]:
    """Return the stage and its intact Model; an error names the stages that make one."""
    planned = pipeline.stage(name)
    if planned.stage.produces is not Model:
        models = [other.label for other in pipeline.plan if other.stage.produces is Model]
        choice = f"choose from: {', '.join(models)}" if models else "no stage of the file makes one"
        raise UsageError(
            f"{name} makes {planned.stage.produces.__name__}, but only a Model can be exported; "
            f"{choice}"
        )
    artifact = pipeline.artifact(name)
    manifest = pipeline.store.find(planned.uses, planned.key)
    assert isinstance(artifact, Model)
    assert manifest is not None, "a finished artifact has a manifest"
    pipeline.store.check(artifact.folder, manifest)
    return planned, artifact


def _write_files(
    pipeline: Pipeline,
    planned: PlannedStage[Any],
    artifact: Model,
    folder: Path,
    name: str,
    onnx: bool,
) -> dict[str, Any]:
    """Write all files, comparing each format, and return the facts that `export` reports.

    Args:
        pipeline: with its store.
        planned: the stage of the model.
        artifact: the model.
        folder: that the files are written into.
        name: of the export's final folder.
        onnx: write `model.onnx` too.
    """
    from transfer.export import formats
    from transfer.export.loaded_model import load_model
    from transfer.models.torchvision_compat import describe

    shutil.copyfile(artifact.folder / "model.safetensors", folder / "model.safetensors")
    card = read_json(artifact.folder / "model.json")
    write_json(folder / "model.json", card | _pixel_options(planned))
    model = load_model(folder)
    pixels, compared_on = _comparison_images(pipeline, planned, model)
    # All are compared with the store's own network, so that a bad copy is noticed too.
    written = formats.write_formats(folder, model, artifact.network(), pixels, onnx)
    side, values = model.card.size, written.values
    signature = (
        f"uint8 pixels (B, 3, {side}, {side}) to embeddings (B, {values}), normalization included"
    )
    state_dict_text, state_dict_markdown = describe(written.fit)
    contents = {
        "model.safetensors": "the weights, for `transfer.load_model`",
        "model.json": "the architecture and the input format, for `transfer.load_model`",
        formats.STATE_DICT: state_dict_text,
        formats.PROGRAM: f"a program for `torch.export.load`: {signature}",
        formats.ONNX: f"an ONNX program: {signature}",
    }
    contents = {file: text for file, text in contents.items() if (folder / file).is_file()}
    differences = [f"`{file}` {value:.1e}" for file, value in written.differences.items()]
    comparison = (
        f"Each file was loaded again and compared with the model on {compared_on}. Largest "
        f"difference relative to the largest output (limit {formats.TOLERANCE:g}): "
        f"{', '.join(differences)}."
    )
    listing = "\n".join(f"- `{file}`: {text}" for file, text in contents.items())
    files = "\n\n".join([listing, comparison, state_dict_markdown])
    facts = ExportFacts(model.card, values, written.layer, name, files)
    card = model_card(pipeline, planned, facts)
    (folder / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    contents = {"README.md": "the model card", **contents}
    sizes = {file: (folder / file).stat().st_size for file in contents}
    return {
        "files": {
            file: {"bytes": sizes[file], "what": text.replace("`", "")}
            for file, text in contents.items()
        },
        "differences": written.differences,
        "tolerance": formats.TOLERANCE,
        "images": compared_on,
        "values": values,
    }


def _pixel_options(planned: PlannedStage[Any]) -> dict[str, Any]:
    """How the training images of the model were packed: `fit`, and `value_range` if there is."""
    for stage in reversed(upstream_stages(planned, images=True)):
        for pack in stage.images.values():
            assert isinstance(pack.stage, Pack)
            options = {"fit": pack.stage.spec.fit, "value_range": pack.stage.spec.value_range}
            return {name: value for name, value in options.items() if value is not None}
    return {"fit": "crop"}


def _comparison_images(
    pipeline: Pipeline, planned: PlannedStage[Any], model: LoadedModel
) -> tuple[Tensor, str]:
    """Return uint8 (B, 3, S, S) to compare formats on, and a description.

    They are noise of a fixed seed and, where the training images are packed, some of these.
    """
    side = model.card.size
    random = np.random.RandomState(0)
    shape = (side, side, 3)
    noise = [random.randint(0, 256, shape).astype(np.uint8) for _ in range(NOISE_IMAGES)]
    noise_text = f"{plural(NOISE_IMAGES, 'image')} of noise"
    for stage in reversed(upstream_stages(planned, images=True)):
        for pack in stage.images.values():
            if find_manifest(pipeline.store, pack) is None:
                continue
            images = Images(pipeline.store.folder(pack.uses, pack.key))
            real = [images.picture(row) for row in range(min(REAL_IMAGES, len(images)))]
            real_text = f"{plural(len(real), 'image')} of {pack.label}"
            return model.pixels([*real, *noise]), f"{real_text} and {noise_text}"
    return model.pixels(noise), noise_text
