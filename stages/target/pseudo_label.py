"""The target learns the pseudo-labels: plain classification from random weights (the paper's transfer)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages._labels import balanced_order, joined
from transfer.artifacts import Model, Normalisation, PseudoLabels
from transfer.images.transforms import normalise, random_resized_crop
from transfer.lazy import F, nn, np, safetensors, torch
from transfer.stage import BackboneOption, Images, option, reads
from transfer.training.loop import epoch_order, train
from transfer.training.recipe import Trained

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.images.draw import Draw
    from transfer.plan import Planned
    from transfer.work import Work


class PseudoLabel(Trained):
    """Cross-entropy over the clusters, images cropped and mirrored at random.

    Labels are joined to images by id; the head has one output a non-empty cluster, and is
    no part of the network: it is kept beside it (`head.safetensors`) for `evaluate/fidelity`.
    """

    produces = Model
    version = 2  # since the head is kept beside the network
    images = {"images": Images("unlabeled", follow="labels")}

    labels: str = reads(PseudoLabels, "what is learned")
    backbone: BackboneOption = option("alexnet", "the target network (see `transfer list backbones`)")
    sampling: Literal["uniform", "balanced"] = option(
        "uniform", "uniform: every image once an epoch; balanced: every cluster equally often"
    )
    crop: float = option(0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1)
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)

    def rehearse(self, planned: Planned) -> None:
        self.backbone.build(0).shapes(planned.images["images"].stage.size)

    def run(self, work: Work) -> None:
        images, pseudo = work.images["images"], work.inputs["labels"]
        joint = joined(pseudo, images, work)
        known = np.flatnonzero(joint >= 0)
        labels = torch.from_numpy(joint).to(work.machine.device)
        network = self._build(images.size, pseudo.count, work.seed_for("weights"))
        normalisation = Normalisation()

        def loss(network: nn.ModuleDict, batch: Tensor, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
            seen = normalise(self.augment(batch, draw), normalisation)
            logits = network["head"](network["backbone"](seen).flatten(1))
            wanted = labels[draw.ids]
            return F.cross_entropy(logits, wanted), {"accuracy": (logits.argmax(1) == wanted).float().mean()}

        def order(epoch: int) -> numpy.ndarray:
            seed = work.seed_for("order", epoch)
            if self.sampling == "uniform":
                return known[epoch_order(seed, len(known))]
            return balanced_order(seed, known, joint[known])

        history = train(work, self, network, loss, images, order, chance=1 / pseudo.count)
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            work.folder,
            network["backbone"],
            size=images.size,
            normalisation=normalisation,
            made_by=made_by,
            history=history,
        )
        head = {name: tensor.detach().cpu() for name, tensor in network["head"].state_dict().items()}
        safetensors.save_file(head, work.folder / "head.safetensors")

    def augment(self, images: Tensor, draw: Draw) -> Tensor:
        """(B, 3, S, S) uint8 to float in [0, 1]: a random part of each image at its size, mirrored or not."""
        return random_resized_crop(images, draw, images.shape[-1], (self.crop, 1.0), flip=self.flip)

    def sees(self, images: Tensor, draw: Draw) -> dict[str, Tensor]:
        """For a picture: the image, and crops of it as different epochs draw them."""
        return {"image": images, **{f"crop {i + 1}": self.augment(images, draw) for i in range(3)}}

    def _build(self, size: int, classes: int, seed: int) -> nn.ModuleDict:
        backbone = self.backbone.build(seed)
        width = 1
        for side in backbone.shapes(size)[backbone.layer_names[-1]]:
            width *= side
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(width, classes)})
