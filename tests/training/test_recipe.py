"""Classes that change the defaults of inherited options."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from transfer.stage.options import conditions, option
from transfer.training.pretext_task import Pretext
from transfer.training.recipe import TrainableStage


class Long(Pretext):
    """Another recipe."""

    defaults = {"epochs": 50, "optimizer": "lars", "milestones": [0.5]}


class Longer(Long):
    """Changes one of them again, and adds an option."""

    defaults = {"epochs": 70}
    strength: float = option(1.0, "without effect")


def test_defaults_change_for_the_class_and_its_subclasses() -> None:
    assert (Long().epochs, Long().optimizer, Long().milestones) == (50, "lars", [0.5])
    assert (Longer().epochs, Longer().optimizer, Longer().milestones) == (70, "lars", [0.5])
    assert (Pretext().epochs, TrainableStage().optimizer) == (90, "sgd")
    assert Long().milestones is not Long().milestones


def test_help_bounds_conditions_and_order_are_inherited() -> None:
    for name in Long.defaults:
        own, inherited = Long.model_fields[name], TrainableStage.model_fields[name]
        assert own.description == inherited.description
        assert conditions(own) == conditions(inherited)
    assert list(Long.model_fields) == list(Pretext.model_fields)
    assert Long.model_json_schema()["properties"]["epochs"]["default"] == 50
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Long(epochs=-1)


def test_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="unknown option 'epoch'; did you mean 'epochs'"):
        type("Wrong", (Pretext,), {"defaults": {"epoch": 1}, "__module__": __name__})
