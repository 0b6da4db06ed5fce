"""A pipeline of three stages that runs in a second, and a history that can be made older."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.storage.history_lines import append_line, history_file, read_lines

SMALL = """\
name: small
data: {card: drawings, limit: 48}
stages:
  net: {uses: pretext/random, backbone: {name: conv4, width: 0.25}}
  features: {uses: extract/network, model: net, layer: conv4, pool: 2}
  clusters: {uses: cluster, features: features, k: 5, iterations: 2}
"""
DAY = 86_400


def clusters(store: Path) -> dict[int, Path]:
    """The number of clusters of each finished artifact of `cluster`, with its folder."""
    from transfer.storage.manifest import Manifest

    folders = [path for path in store.glob("cluster/*") if not path.name.startswith(".")]
    return {Manifest.read(path).identity["options"]["k"]: path for path in folders}


def age(store: Path, days: float) -> None:
    """Make all that a store has, and its history, older."""
    history = history_file(store)
    bodies = [body for _, body in read_lines(history)]
    if history.exists():
        history.unlink()
    for body in bodies:
        assert body is not None
        for name in ("time", "ended"):
            if body.get(name) is not None:
                body[name] -= days * DAY
        append_line(history, body)
    for path in store.rglob("*"):
        if path.is_file() and path != history:
            seconds = path.stat().st_mtime - days * DAY
            os.utime(path, (seconds, seconds))
