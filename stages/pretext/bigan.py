"""BiGAN (Donahue, Krähenbühl & Darrell, ICLR 2017): a network that finds what an image was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.pretext._batch_partners import check_batch
from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.stage.base import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import lr_milestones
from transfer.transforms.color import to_float
from transfer.transforms.geometry import random_flip
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.transforms.per_image_rng import PerImageRng


class BiGAN(Pretext):
    """Is it an image with the code that the network gave it, or a code with the image that was made of it?

    A discriminator sees pairs: (image, encoder's code) or (generator's image, code drawn from U(-1, 1)). Encoder and
    generator learn to be taken for each other (inverted labels, which do not saturate), and can only succeed where they
    undo one another. Loss: binary cross-entropies, the discriminator's plus the others'. Source: Donahue et al. (2017)
    and their released code; the encoder is the backbone and one layer, generator and discriminator are DCGAN's, as many
    steps deep as the images' size asks. The paper's last 50 epochs decay to a hundredth; here in two steps.
    The trap: images and fakes that differ in range or in how they were resampled are told apart by that alone; both
    are -1..1, and images are mirrored only. Discriminator and generator have batch norms over a batch's images.
    """

    paper = "Donahue, Krähenbühl & Darrell, ICLR 2017"

    epochs: int = option(100, "passes over the images", ge=0)
    batch_size: int = option(
        128, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = option("adam", "SGD has Nesterov momentum")
    learning_rate: float = option(2e-4, "the highest it gets", gt=0)
    momentum: float = option(0.5, "of SGD and LARS; of Adam, its first beta", ge=0, lt=1)
    weight_decay: float = option(2.5e-5, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "step", "of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([0.625, 0.875])
    latent_dim: int = option(200, "numbers in a code", ge=1)
    hidden_dim: int = option(1024, "values of the discriminator's joint layers", ge=1)
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the generator's last hidden map and of the discriminator's first", ge=1
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """No part of a batch is a single image."""
        check_batch(
            self,
            planned,
            "the batch norms of discriminator and generator go over the images of a batch",
        )

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """Encoder (backbone and `code`), generator, and the discriminator: what it sees of an image, and of a pair."""
        code = nn.Linear(backbone_feature_dim(backbone, about.size), self.latent_dim)
        looks, width = trunk(about.size, self.decoder_width)
        judges = nn.Sequential(
            nn.Linear(width + self.latent_dim, self.hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden_dim, self.hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden_dim, 1),
        )
        dcgan_init([code, judges])
        generator = decoder((self.latent_dim,), about.size, width=self.decoder_width)
        return nn.ModuleDict(
            {
                "backbone": backbone,
                "code": code,
                "generator": generator,
                "looks": looks,
                "judges": judges,
            }
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen, real = self.views(images, rng)
        codes = network["code"](backbone_features(network["backbone"], seen)).float()
        drawn_codes = 2 * rng.uniform(self.latent_dim) - 1
        fake = torch.tanh(network["generator"](drawn_codes).float())
        looks, judges = network["looks"], network["judges"]
        # See `_adversarial`: one backward pass, each part with its own gradients. Nothing that is learned is behind the
        # real images, so what the frozen discriminator sees of them it has seen already.
        of_real = looks(real)
        on_real = judges(torch.cat((of_real, codes.detach()), 1))
        on_fake = judges(torch.cat((looks(fake.detach()), drawn_codes), 1))
        encoded = call_with_frozen_weights(judges, torch.cat((of_real.detach(), codes), 1))
        generated = call_with_frozen_weights(
            judges, torch.cat((call_with_frozen_weights(looks, fake), drawn_codes), 1)
        )
        discriminator = gan_bce(on_real, real=True) + gan_bce(on_fake, real=False)
        encoder, generator = gan_bce(encoded, real=False), gan_bce(generated, real=True)
        figures = {
            "discriminator": discriminator,
            "encoder": encoder,
            "generator": generator,
            "told apart": discriminator_accuracy(on_real, on_fake),
        }
        return discriminator + encoder + generator, figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image as it comes, and as encoder and discriminator see it."""
        return {"image": images, "seen": self.views(images, rng)[1]}

    def views(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) uint8 to what the encoder sees (normalized) and what the discriminator sees (-1..1)."""
        images = to_float(random_flip(images, rng, self.flip))
        return normalize(images, self.normalization), 2 * images - 1
