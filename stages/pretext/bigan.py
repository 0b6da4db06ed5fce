"""BiGAN (Donahue, Krähenbühl & Darrell, ICLR 2017): an encoder that inverts a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.pretext._batch_partners import check_batch
from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import option
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
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
    """Is this an image with its code from the encoder, or a code with its image from the generator?

    A discriminator sees pairs: (image, encoder's code) or (generator's image, code from U(-1, 1)).
    Encoder and generator learn to make it confuse the two (inverted labels, which do not saturate),
    and succeed only where each inverts the other. Loss: binary cross-entropies, the discriminator's
    plus the others'.
    Source: Donahue et al. (2017) and their released code. The encoder is the backbone and one
    layer. Generator and discriminator are DCGAN's; their depth follows from the image size. In the
    last 50 epochs of the paper the learning rate decays to a hundredth; here in two steps.
    The trap: a difference in range or in resampling alone would separate images from fakes. So both
    are in -1..1, and images are only mirrored. The batch norms of discriminator and generator go
    over the images of a batch.
    """

    paper = "Donahue, Krähenbühl & Darrell, ICLR 2017"

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 100,
        "batch_size": 128,
        "optimizer": "adam",
        "learning_rate": 2e-4,
        "momentum": 0.5,
        "weight_decay": 2.5e-5,
        "schedule": "step",
        "milestones": [0.625, 0.875],
    }
    latent_dim: int = option(200, "values of a code", ge=1)
    hidden_dim: int = option(1024, "units of the discriminator's joint layers", ge=1)
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)
    decoder_width: int = option(
        64, "channels of the generator's last hidden map and of the discriminator's first", ge=1
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise for a batch with parts of a single image."""
        reason = "the batch norms of discriminator and generator go over the images of a batch"
        check_batch(self, planned, reason)

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return the encoder, the generator and the discriminator.

        The encoder is `backbone` and `code`. The discriminator is `looks`, its trunk for images,
        and `judges`, its joint layers for pairs of an image's features and a code.
        """
        code = nn.Linear(backbone_feature_dim(backbone, dataset.size), self.latent_dim)
        image_trunk, width = trunk(dataset.size, self.decoder_width)
        joint = nn.Sequential(
            nn.Linear(width + self.latent_dim, self.hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden_dim, self.hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden_dim, 1),
        )
        dcgan_init([code, joint])
        generator = decoder((self.latent_dim,), dataset.size, width=self.decoder_width)
        return nn.ModuleDict(
            {
                "backbone": backbone,
                "code": code,
                "generator": generator,
                "looks": image_trunk,
                "judges": joint,
            }
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        inputs, real = self.views(images, rng)
        codes = network["code"](backbone_features(network["backbone"], inputs)).float()
        random_codes = 2 * rng.uniform(self.latent_dim) - 1
        fake = torch.tanh(network["generator"](random_codes).float())
        image_trunk, joint = network["looks"], network["judges"]
        # See `_gan`: one backward pass, and each part gets its own gradients. No weights are
        # trained through the real images, so their features serve the frozen discriminator too.
        real_features = image_trunk(real)
        real_logits = joint(torch.cat((real_features, codes.detach()), 1))
        fake_logits = joint(torch.cat((image_trunk(fake.detach()), random_codes), 1))
        encoded = call_with_frozen_weights(joint, torch.cat((real_features.detach(), codes), 1))
        fake_features = call_with_frozen_weights(image_trunk, fake)
        generated = call_with_frozen_weights(joint, torch.cat((fake_features, random_codes), 1))
        discriminator = gan_bce(real_logits, real=True) + gan_bce(fake_logits, real=False)
        encoder, generator = gan_bce(encoded, real=False), gan_bce(generated, real=True)
        figures = {
            "discriminator": discriminator,
            "encoder": encoder,
            "generator": generator,
            "discriminator accuracy": discriminator_accuracy(real_logits, fake_logits),
        }
        return discriminator + encoder + generator, figures

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image, and the input of encoder and discriminator."""
        return {"image": images, "input": self.views(images, rng)[1]}

    def views(self, images: Tensor, rng: PerImageRng) -> tuple[Tensor, Tensor]:
        """Return the inputs of the encoder (normalized) and of the discriminator (-1..1).

        Both are (B, 3, S, S), made from uint8 `images` of that shape.
        """
        images = to_float(random_flip(images, rng, self.flip))
        return normalize(images, self.normalization), 2 * images - 1
