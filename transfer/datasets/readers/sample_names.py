"""The samples of a shard by the names of its files.

WebDataset's key of a file is its name up to the first dot: 1.jpg, 1.cls and 1.seg.png are sample 1.
In names with dates (IMG.2024.01.jpg) this key would join images, so that the last dot is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

Members = dict[str, str]  # suffix in small letters, without its first dot -> name of the file


def group_by_sample(
    names: Iterable[str], image_suffixes: Sequence[str], labels: Collection[str], chosen: bool
) -> tuple[dict[str, Members], dict[str, str]]:
    """Return the files of each sample by its key, and the faults of ambiguous samples.

    Args:
        names: the files of the shard.
        image_suffixes: the suffixes of images, without their first dot.
        labels: the suffixes of labels.
        chosen: whether a card names the suffix, so that other images are not ambiguous.
    """
    groups: dict[str, Members] = {}
    faults: dict[str, str] = {}
    for name in names:
        folder, slash, base = name.rpartition("/")
        key, _, suffix = base.partition(".")
        _add(groups, faults, folder + slash + key, suffix.lower().rstrip(" ."), name)
    times = Counter(suffix for members in groups.values() for suffix in members)
    samples: dict[str, Members] = {}
    for key, members in groups.items():
        plain = [suffix for suffix in image_suffixes if suffix in members]
        dotted = dotted_images(members, image_suffixes)
        parts = [suffix for suffix in dotted if times[suffix] > 1]
        unique = [suffix for suffix in dotted if times[suffix] == 1 and _ends_alike(suffix, plain)]
        if unique and not chosen and (len(groups) > 1 or len(unique) > 1):
            faults.setdefault(key, f"{choice([*plain, *unique])}, or rename them")
        elif not plain and len(dotted) > 1 and (len(parts) > 1 or set(labels) & members.keys()):
            faults.setdefault(key, choice(dotted))
        if plain or not dotted or set(labels) & members.keys() or key in faults:
            samples[key] = members
            continue
        for suffix, name in members.items():
            stem, last = _split_suffix(suffix, image_suffixes)
            _add(samples, faults, f"{key}.{stem}" if stem else key, last, name)
    return samples, faults


def dotted_images(members: Iterable[str], image_suffixes: Sequence[str]) -> list[str]:
    """Return the suffixes with a dot that end in that of an image: `seg.png`."""
    ends = tuple(f".{suffix}" for suffix in image_suffixes)
    return [suffix for suffix in members if suffix.endswith(ends)]


def choice(suffixes: Sequence[str]) -> str:
    """Return the fault of a sample with several images."""
    return (
        f"it has {' and '.join(suffixes[:2])}: "
        f"choose with `tar: {{image: {suffixes[0]}}}` in a card"
    )


def _add(
    groups: dict[str, Members], faults: dict[str, str], key: str, suffix: str, name: str
) -> None:
    members = groups.setdefault(key, {})
    if suffix in members:
        first, second = (file.rpartition("/")[2] for file in (members[suffix], name))
        faults[key] = f"it has both {first} and {second}: rename one of them"
    members[suffix] = name


def _ends_alike(suffix: str, plain: Sequence[str]) -> bool:
    return suffix.endswith(tuple(f".{other}" for other in plain))


def _split_suffix(suffix: str, image_suffixes: Sequence[str]) -> tuple[str, str]:
    """Return what of a suffix belongs to the key, and the rest."""
    for image in image_suffixes:
        if suffix.endswith(f".{image}"):
            return suffix[: -len(image) - 1], image
    stem, _, last = suffix.rpartition(".")
    return stem, last
