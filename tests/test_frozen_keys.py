"""No key of a shipped pipeline changes unless the stage's version does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.frozen_keys import FILE, PIPELINES, frozen, plan_of

KEYS = json.loads(FILE.read_text(encoding="utf-8"))
ADVICE = "write the keys again: python -m tests.frozen_keys"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_key_changes_with_a_version_only(path: Path) -> None:
    before, plan = KEYS[path.stem], plan_of(path)
    assert {planned.label for planned in plan} == before.keys(), ADVICE
    changed = {planned for planned in plan if frozen(planned) != before[planned.label]}
    for planned in changed:
        if changed & set(planned.dependencies.values()):
            continue  # its key contains theirs
        version = f"{planned.uses} version {planned.stage.version}:"
        assert not before[planned.label].startswith(version), (
            f"the key of '{planned.label}' changed, and its version did not: raise `version` where "
            f"the result changes, then {ADVICE}"
        )
    assert not changed, f"versions were raised: {ADVICE}"


def test_every_shipped_pipeline_of_drawings_is_frozen() -> None:
    assert sorted(KEYS) == [path.stem for path in PIPELINES]
