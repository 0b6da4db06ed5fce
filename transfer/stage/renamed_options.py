# pyright: strict
"""Former names of options and of their values, so that a message can name the present one."""

from __future__ import annotations

from collections.abc import Container

# Former name -> present names; which one applies depends on the stage.
RENAMED_OPTIONS: dict[str, tuple[str, ...]] = {
    "accumulate": ("accumulation_steps",),
    "amounts": ("label_budgets",),
    "batch": ("batch_size",),
    "beside": ("random_baseline",),
    "clip": ("clip_grad_norm",),
    "colour": ("color",),
    "crop": ("crop_size", "crop_side"),
    "density": ("mask_ratio",),
    "distance": ("min_hamming_distance",),
    "downsampled": ("downsample",),
    "draws": ("repeats",),
    "drops": ("milestones",),
    "embedding": ("embedding_dim",),
    "floor": ("variance_floor",),
    "focal": ("focal_gamma",),
    "grey": ("grayscale",),
    "hidden": ("hidden_dim",),
    "hide": ("mask",),
    "latent": ("latent_dim",),
    "least_score": ("score_threshold",),
    "licence": ("license",),
    "locked": ("frozen_up_to",),
    "mask": ("mask_ratio",),
    "measure": ("loss",),
    "patch": ("patch_size",),
    "projected": ("projection_dim",),
    "projection": ("projection_dim", "color_projection"),
    "reassign": ("reassign_every",),
    "regions": ("regions_per_image",),
    "tile": ("tile_size",),
    "tries": ("n_init",),
    "untrained": ("random_weights",),
    "warmup": ("warmup_epochs",),
    "ways": ("methods",),
    "width": ("decoder_width",),
}
RENAMED_VALUES = {
    "centre": "center",
    "standardise": "standardize",
    "middle": "center",
    "vissl": "vissl_alexnet",
}


def renamed_option(former: str, options: Container[str]) -> str | None:
    """Return the present name of an option that was called `former`; None if no option was."""
    return next((name for name in RENAMED_OPTIONS.get(former, ()) if name in options), None)
