"""Files of weights that timm publishes, on the Hugging Face hub or elsewhere.

A file in a cache is taken without the network. Another one is looked up once, with a short
time-out, before it is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from transfer.errors import TransferError
from transfer.models.timm_backbone import Timm
from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import nn

SECONDS = 4.0  # for the look-up of a file, name resolution included
BINARY, SAFE = "pytorch_model.bin", "model.safetensors"  # timm's usual names on the hub


@dataclass(frozen=True)
class PublishedFile:
    """A file that timm publishes.

    Args:
        urls: where it may be, the best first.
        cached: where it is on this machine, if it is.
        cache: the folder that keeps it, and how to name another.
        hub: its place on the Hugging Face hub: repository and names.
        revision: the commit or branch there; None: the main branch.
    """

    urls: tuple[str, ...]
    cached: Path | None
    cache: str
    hub: tuple[str, tuple[str, ...]] | None = None
    revision: str | None = None


def published_file(spec: Timm) -> PublishedFile:
    """Return the file of a network's published weights, from what timm knows of them."""
    facts = spec.published_facts()
    repository = getattr(facts, "hf_hub_id", None)
    if not repository:
        url = str(getattr(facts, "url", None) or "")
        folder = Path(torch.hub.get_dir(), "checkpoints")
        path = folder / urlsplit(url).path.rpartition("/")[2]
        return PublishedFile((url,), path if path.exists() else None, f"{folder} (TORCH_HOME)")
    from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache

    repository, _, revision = repository.partition("@")
    names = _hub_names(getattr(facts, "hf_hub_filename", None))
    cached = [
        path
        for name in names
        if isinstance(
            path := try_to_load_from_cache(repository, name, revision=revision or None), str
        )
    ]
    return PublishedFile(
        tuple(hf_hub_url(repository, name, revision=revision or None) for name in names),
        Path(cached[0]) if cached else None,
        f"{constants.HF_HUB_CACHE} (HF_HOME)",
        (repository, names),
        revision or None,
    )


def check_published(spec: Timm) -> None:
    """Raise ValueError where a network's weights are neither on this machine nor in reach."""
    file = published_file(spec)
    if file.cached is None:
        try:
            _look_up(spec, file)
        except TransferError as error:
            raise ValueError(str(error)) from error


def published_module(spec: Timm) -> nn.Module:
    """Return timm's module with its published weights, without its classifier.

    TransferError where they are neither on this machine nor in reach.
    """
    file = published_file(spec)
    path = file.cached
    if path is None:
        name = _look_up(spec, file)
        path = _download(spec, file, name)
    try:
        # Elsewhere than on the hub, timm has a cache and a download of its own.
        return spec.create(path if file.hub else None, pretrained=True)
    except Exception as error:  # of a damaged file, or of the network
        if path is None:
            raise TransferError(_message(spec, file, error)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TransferError(
            f"{path} cannot be loaded as the weights of {spec.name} ({reason}); remove it, so that "
            "it is fetched again"
        ) from error


def _hub_names(name: str | None) -> tuple[str, ...]:
    """Return the names that timm looks for, safetensors first."""
    if name is None:
        return SAFE, BINARY
    return (name.removesuffix(".bin") + ".safetensors", name) if name.endswith(".bin") else (name,)


def _look_up(spec: Timm, file: PublishedFile) -> str:
    """Return the file's name after one look-up; TransferError where it cannot be reached."""
    if file.hub is None:
        _within(SECONDS, lambda: _connect(file.urls[0]), spec, file)
        return ""
    from huggingface_hub import constants, get_hf_file_metadata
    from huggingface_hub.utils import EntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise TransferError(_message(spec, file, OSError("HF_HUB_OFFLINE is set")))

    def existing() -> str:
        for name, url in zip(file.hub[1] if file.hub else (), file.urls, strict=True):
            with suppress(EntryNotFoundError):
                get_hf_file_metadata(url, timeout=SECONDS)
                return name
        raise FileNotFoundError(f"no file {' or '.join(file.hub[1] if file.hub else ())} there")

    return _within(SECONDS, existing, spec, file)


def _within(seconds: float, look_up: Callable[[], Any], spec: Timm, file: PublishedFile) -> Any:
    """Return what a look-up returns; TransferError where it fails or takes longer.

    It runs in a thread, as the resolution of names has no time-out.
    """
    import threading

    results: list[Any] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(look_up())
        except Exception as error:  # of many types, the library's own among them
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    if results:
        return results[0]
    error = errors[0] if errors else TimeoutError(f"no answer within {seconds:.0f} s")
    raise TransferError(_message(spec, file, error)) from error


def _connect(url: str) -> None:
    """Connect with the server of a URL, or with the proxy for it."""
    import socket
    from urllib.request import getproxies

    proxy = getproxies().get(urlsplit(url).scheme)
    server = urlsplit(proxy or url)
    port = server.port or (80 if server.scheme == "http" else 443)
    socket.create_connection((server.hostname or "", port), timeout=SECONDS).close()


def _download(spec: Timm, file: PublishedFile, name: str) -> Path | None:
    """Download a file into the cache of the hub; None for other places, where timm does it."""
    if file.hub is None:
        return None
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(file.hub[0], name, revision=file.revision))
    except Exception as error:  # of the network or the disk; the library's own types among them
        raise TransferError(_message(spec, file, error)) from error


def _message(spec: Timm, file: PublishedFile, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    host = urlsplit(file.urls[0]).hostname
    name = os.path.basename(urlsplit(file.urls[0]).path)
    return (
        f"the weights of {spec.name} are not on this machine, and {host} does not give them "
        f"({reason})\n"
        f"  the file is {file.urls[0]}\n"
        f"  download it where there is a network, and name it: `weights: PATH/{name}`\n"
        f"  or copy the cache of a machine that has it to {file.cache}"
    )
