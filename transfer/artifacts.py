"""What stages hand to one another: Images, Model, Features, Clusters, PseudoLabels, Scores, and how each lies on disk.

An artifact is a folder. Its class reads it, and has a static `write` that a stage calls to make it. Nothing here
knows of keys, locks or pipelines: those are the store's.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from transfer.errors import Damaged
from transfer.lazy import np, safetensors, torch
from transfer.statistics import over_images
from transfer.tables import Table, encode_strings, write_table

if TYPE_CHECKING:
    import numpy

    from transfer.networks.backbone import Backbone
    from transfer.networks.network import Network


class Artifact:
    """A finished folder in the store."""

    required: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)


def write_json(path: Path, value: Any) -> None:
    """Canonical JSON: the same value gives the same bytes."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """The JSON value in `path`; Damaged where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Damaged(path.parent, f"{path.name} cannot be read ({error})") from error


@dataclass(frozen=True)
class Normalisation:
    """How uint8 images become a network's input: per channel, or each image by its own mean and deviation.

    With `lightness` the network sees no colour: all three channels are the CIE lightness L.
    """

    per_image: bool = False
    lightness: bool = False
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


class Images(Artifact):
    """A packed split: memory-mapped pixels or JPEG bytes; `index.h5` with ids and labels.

    Raw: `images.npy` (N, S, S, 3) uint8. JPEG: `images.bin` and `offsets.npy` (N + 1,), of S x S px each.
    `transfer/images/batches.py` reads both by batches. Rows are in the order of the files, or in that of their ids.
    """

    required = ("index.h5", "images.json")

    def __init__(self, folder: Path | str, ordered: bool = False):
        super().__init__(folder)
        self._ordered = ordered

    def by_id(self) -> Images:
        """The same images, their rows in the order of their ids, however they lie on disk."""
        return Images(self.folder, ordered=True)

    @cached_property
    def places(self) -> numpy.ndarray | None:
        """(N,) where the image of each row lies in the files; None where row and place are the same."""
        ids = self._index.strings("ids")
        if not self._ordered or all(a < b for a, b in pairwise(ids)):
            return None
        return np.array(sorted(range(len(ids)), key=ids.__getitem__))

    def place(self, row: int) -> int:
        """Where the image of a row lies in the files."""
        return row if self.places is None else int(self.places[row])

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("images.json")

    @property
    def stored(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of a raw set as they lie in the file, mapped anew at each call."""
        return self._mapped("images.npy")

    @property
    def pixels(self) -> numpy.ndarray:
        """(N, S, S, 3) uint8 of a raw set by its rows; in memory where these are not in the order of the file."""
        return self.stored if self.places is None else self.stored[self.places]

    @property
    def form(self) -> str:
        """`raw` or `jpeg`."""
        return self.card.get("form", "raw")

    def encoded(self, row: int) -> bytes:
        """The JPEG bytes of an image of a `jpeg` set; from any thread or forked process."""
        place = self.place(row)
        start, end = self._offsets[place : place + 2].tolist()
        return os.pread(self._bytes.fileno(), end - start, start)

    def picture(self, row: int) -> numpy.ndarray:
        """(S, S, 3) uint8 of one image, of either form; OSError where it is damaged."""
        if self.form == "raw":
            return self.stored[self.place(row)]
        from PIL import Image

        try:
            with Image.open(io.BytesIO(self.encoded(row)), formats=("JPEG",)) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # decoders raise almost anything on bytes that make no sense to them
            raise OSError(" ".join(str(error).split()) or type(error).__name__) from error

    @cached_property
    def _offsets(self) -> numpy.ndarray:
        return self._mapped("offsets.npy")

    @cached_property
    def _bytes(self) -> IO[bytes]:
        try:
            return open(self.folder / "images.bin", "rb")
        except OSError as error:
            raise Damaged(self.folder, f"images.bin cannot be read ({error})") from error

    def _mapped(self, name: str) -> numpy.ndarray:
        try:
            return np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise Damaged(self.folder, f"{name} cannot be read ({error})") from error

    def __len__(self) -> int:
        return self._index.shapes["ids"][0]

    @property
    def size(self) -> int:
        return self.card["size"]

    @property
    def classes(self) -> list[str]:
        return self.card["classes"]

    @cached_property
    def ids(self) -> list[str]:
        ids = self._index.strings("ids")
        return ids if self.places is None else [ids[place] for place in self.places]

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        """(N,) int64, or None for a set without labels."""
        labels = self._index.read("labels") if "labels" in self._index else None
        return labels if labels is None or self.places is None else labels[self.places]

    @cached_property
    def _index(self) -> Table:
        return Table(self.folder / "index.h5")


class Model(Artifact):
    """A trained backbone: `model.safetensors`, and `model.json` that says how to build and feed it."""

    required = ("model.safetensors", "model.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("model.json")

    @property
    def normalisation(self) -> Normalisation:
        return Normalisation(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in self.card["normalisation"].items()}
        )

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One entry an epoch: loss, accuracy and whatever else the task names."""
        return self._json("history.json") if (self.folder / "history.json").exists() else []

    @cached_property
    def backbone(self) -> Backbone:
        """The description that the network is built from: its options and layers, without weights."""
        from transfer.networks import backbone

        return backbone(self.card["backbone"])

    @cached_property
    def layers(self) -> dict[str, list[int]]:
        """Layer -> its shape, (C, H, W) or (C,), in the order in which they run."""
        return {name: self.card["layers"][name] for name in self.backbone.layer_names()}

    def network(self) -> Network:
        """The backbone with its weights, in eval mode, on the CPU. Loading is strict."""
        network = self.backbone.build(seed=0)
        try:
            network.load_state_dict(safetensors.load_file(self.folder / "model.safetensors"), strict=True)
        except Exception as error:  # safetensors has its own error type; a wrong key or shape is a RuntimeError
            raise Damaged(self.folder, f"model.safetensors cannot be loaded ({error})") from error
        return network.eval()

    @staticmethod
    def write(folder: Path, network: Network, *, size: int, normalisation: Normalisation, made_by: dict[str, Any],
              history: list[dict[str, float]]) -> None:  # fmt: skip
        """Write the backbone `network`, fed with square images of `size` px, and its training curves."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
        safetensors.save_file(state, folder / "model.safetensors")
        card = {
            "backbone": network.spec.model_dump(mode="json"),
            "default_layer": network.spec.default_layer(),
            "layers": {name: list(shape) for name, shape in network.shapes(size).items()},
            "normalisation": normalisation.__dict__,
            "made_by": made_by,
            "size": size,
        }
        write_json(folder / "model.json", card)
        write_json(folder / "history.json", history)


class Features(Artifact):
    """`features.h5`: `features` (N, D) float16 or float32, `ids` (N,), `labels` (N,) where the set has them.

    Attributes: `space` (which network, layer, pooling and preparation made them: features of one space can be
    compared), `layer`, `images` (key of the image set), and `preparation`, all steps that they went through. Prepared
    ones also have `source`, the space before, and `steps`, those that `preparation.h5` beside it holds.
    """

    required = ("features.h5",)

    @cached_property
    def table(self) -> Table:
        return Table(self.folder / "features.h5")

    @property
    def attributes(self) -> dict[str, Any]:
        return self.table.attributes

    @property
    def space(self) -> dict[str, Any]:
        return self.attributes["space"]

    @property
    def shape(self) -> tuple[int, int]:
        rows, dimensions = self.table.shapes["features"]
        return rows, dimensions

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def ids(self) -> list[str]:
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray | None:
        return self.table.read("labels") if "labels" in self.table else None

    def blocks(self, rows: int | None = None) -> Iterator[tuple[int, numpy.ndarray]]:
        """(first row, float32 block) over all features; a block is about 16 MB unless `rows` says otherwise."""
        rows = rows or max(1, (4 << 20) // max(1, self.shape[1]))
        for start, block in self.table.blocks("features", rows):
            yield start, torch.from_numpy(block).float().numpy()  # 2.5 times as fast as numpy's own conversion


class Clusters(Artifact):
    """`clusters.h5`: `centroids` (k, D) float32, `sizes` (k,), `objective` (iterations + 1,); `space` of the features.

    The objective is the sum of squared distances at the start of each iteration, and last that of the centroids.
    """

    required = ("clusters.h5",)

    @cached_property
    def table(self) -> Table:
        return Table(self.folder / "clusters.h5")

    @property
    def space(self) -> dict[str, Any]:
        return self.table.attributes["space"]

    @cached_property
    def centroids(self) -> numpy.ndarray:
        return self.table.read("centroids")

    @cached_property
    def sizes(self) -> numpy.ndarray:
        return self.table.read("sizes")

    @cached_property
    def objective(self) -> numpy.ndarray:
        return self.table.read("objective")


class PseudoLabels(Artifact):
    """`labels.h5` and `labels.csv`: for each image id its label, its distance, its distance to the runner-up.

    Labels are compact (0 to the number of non-empty clusters - 1); `cluster_ids` maps them back to the clusters.
    """

    required = ("labels.h5", "labels.csv")

    @cached_property
    def table(self) -> Table:
        return Table(self.folder / "labels.h5")

    @cached_property
    def ids(self) -> list[str]:
        return self.table.strings("ids")

    @cached_property
    def labels(self) -> numpy.ndarray:
        return self.table.read("labels")

    @cached_property
    def cluster_ids(self) -> numpy.ndarray:
        return self.table.read("cluster_ids")

    @property
    def count(self) -> int:
        """Number of distinct labels: what a classifier's last layer needs."""
        return len(self.cluster_ids)

    @property
    def k(self) -> int:
        """Number of clusters, with those that no image fell into."""
        return int(self.table.attributes["k"])

    def of(self, ids: list[str]) -> numpy.ndarray:
        """(len(ids),) int64: the label of each image id, -1 where there is none."""
        label = dict(zip(self.ids, self.labels.tolist(), strict=True))
        return np.array([label.get(one, -1) for one in ids], dtype=np.int64)

    @staticmethod
    def write(folder: Path, ids: list[str], labels: numpy.ndarray, cluster_ids: numpy.ndarray, distance: numpy.ndarray,
              runner_up: numpy.ndarray, **attributes: Any) -> None:  # fmt: skip
        """All arrays (N,) in the order of `ids`, but `cluster_ids` (number of labels,)."""
        columns = {"labels": labels, "distance": distance, "runner_up": runner_up}
        write_table(
            folder / "labels.h5",
            {"ids": encode_strings(ids), "cluster_ids": cluster_ids, **columns},
            **attributes,
        )
        with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", *columns])
            writer.writerows(
                zip(
                    ids,
                    labels.tolist(),
                    *([f"{v:.6g}" for v in c.tolist()] for c in (distance, runner_up)),
                    strict=True,
                )
            )


TAUGHT = ("train", "selection", "labels")  # what counts of other than scored images begin with


class Scores(Artifact):
    """`scores.json`: the protocol, what was selected on which split, every figure with its n; `scores.h5` for plots.

    `main` names the figure that a comparison shows. `intervals`: figure -> [low, high], 95 %, by bootstrap over test
    images. Column `outcome.FIGURE` of `scores.h5`: what each test image adds to a figure that is their mean.
    """

    required = ("scores.json",)

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("scores.json")

    @property
    def figures(self) -> dict[str, float]:
        return self.card["figures"]

    def outcomes(self, figure: str) -> numpy.ndarray | None:
        """(N,) what each test image adds to a figure, in the order of their ids; None for what is no mean."""
        table = Table(self.folder / "scores.h5")
        return table.read(f"outcome.{figure}") if f"outcome.{figure}" in table else None

    @staticmethod
    def tested(counts: dict[str, int]) -> int | None:
        """How many images were scored, as a card's `counts` say; None where they do not."""
        return next((count for name, count in counts.items() if not name.startswith(TAUGHT)), None)

    @staticmethod
    def write(folder: Path, *, protocol: str, settings: dict[str, Any], selected: dict[str, Any], main: str,
              figures: dict[str, float], counts: dict[str, int], outcomes: dict[str, numpy.ndarray] | None = None,
              intervals: dict[str, list[float]] | None = None,
              arrays: dict[str, numpy.ndarray] | None = None) -> None:  # fmt: skip
        """`counts`: how many images each split had; `selected`: what was chosen, and on which split.

        Figures in percent. Of those with `outcomes` the interval is computed here; a protocol gives others itself.
        """
        spans = {name: over_images(values) for name, values in (outcomes or {}).items()}
        card = {
            "protocol": protocol,
            "settings": settings,
            "selected": selected,
            "main": main,
            "figures": figures,
            "intervals": {name: [span.low, span.high] for name, span in spans.items()} | (intervals or {}),
            "counts": counts,
        }
        write_json(folder / "scores.json", card)
        columns = {f"outcome.{name}": np.asarray(values, np.float32) for name, values in (outcomes or {}).items()}
        write_table(folder / "scores.h5", columns | (arrays or {}))


KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind for kind in (Images, Model, Features, Clusters, PseudoLabels, Scores)
}
