"""Classes that change the defaults of inherited options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from torch import nn

from stages.pretext.byol import BYOL
from stages.pretext.jigsaw import Jigsaw
from stages.pretext.jigsawpp import JigsawPP
from stages.pretext.rotation import Rotation
from tests.conftest import Said
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
    assert (Pretext().epochs, TrainableStage().optimizer) == (90, "nesterov")
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


RATES = {0: 0.01, 15: 1e-3, 30: 1e-4, 45: 1e-5}


def test_rotation_has_the_rates_of_the_release() -> None:
    # gidariss/FeatureLearningRotNet, config/ImageNet_RotNet_AlexNet.py: until 15, 30, 45, 50.
    rotation, table = Rotation(), Rotation(rates=RATES)
    for epoch, rate in {
        0: 0.01,
        14: 0.01,
        15: 1e-3,
        29: 1e-3,
        30: 1e-4,
        45: 1e-5,
        49: 1e-5,
    }.items():
        assert rotation.learning_rate_at(epoch) == pytest.approx(rate)
        assert table.learning_rate_at(epoch) == pytest.approx(rate)


def test_rates_may_have_any_factors_and_a_warmup() -> None:
    stage = Rotation(rates={0: 0.1, 60: 0.02, 120.5: 0.004}, warmup_epochs=4)
    assert [stage.learning_rate_at(epoch) for epoch in (0, 2, 4, 59.9, 60, 120, 121)] == [
        *(0.0, 0.05, 0.1, 0.1),
        *(0.02, 0.02, 0.004),
    ]


def test_jigsaw_and_jigsawpp_have_the_released_solver() -> None:
    # MehdiNoroozi/JigsawPuzzleSolver, solver_cfn_jps.prototxt.
    for stage in (Jigsaw(), JigsawPP()):
        assert (stage.optimizer, stage.momentum, stage.weight_decay) == ("sgd", 0.9, 5e-4)
        rates = [stage.learning_rate_at(epoch) for epoch in (0, 19, 21, 39, 41, 59, 61)]
        assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


@pytest.mark.parametrize(("optimizer", "nesterov"), [("sgd", False), ("nesterov", True)])
def test_sgd_is_plain_and_nesterov_is_not(optimizer: str, nesterov: bool) -> None:
    stage = Rotation(optimizer=optimizer)
    groups = stage.make_optimizer(nn.Linear(2, 2)).param_groups
    assert {group["nesterov"] for group in groups} == {nesterov}
    assert {group["momentum"] for group in groups} == {0.9}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("rates: {0: 0.01, 30: 1e-3, 15: 1e-4}", "must ascend in epochs"),
        ("rates: {5: 0.01}", "must begin with epoch 0"),
        ("rates: {0: 0}", "must all be above zero"),
        ("rates: {}", "must begin with epoch 0"),
        ("rates: {0: 0.01}, schedule: cosine", "`rates` replaces `schedule`"),
        ("rates: {0: 0.01}, learning_rate: 0.1", "`rates` replaces `learning_rate`"),
        ("rates: [0.01, 0.001]", "rates"),
        ("epochs: 5, warmup_epochs: 5", "leaves nothing of `epochs: 5`"),
    ],
)
def test_faulty_recipes_are_refused_with_their_place(
    invoke: Callable[..., Said], tmp_path: Path, options: str, problem: str
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"data: drawings\nstages:\n  net: {{uses: pretext/rotation, {options}}}\n")
    result = invoke("run", file, "--dry-run", check=2)
    assert problem in result.err
    assert f"{file}:3:" in result.err


def test_a_short_run_of_simclr_does_not_stay_in_its_warmup(
    invoke: Callable[..., Said], tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("data: drawings\nstages:\n  net: {uses: pretext/simclr, epochs: 10}\n")
    assert "`warmup_epochs: 10` leaves nothing" in invoke("run", file, "-n", check=2).err
    assert "to run" in invoke("run", file, "-n", "--set", "stages.net.warmup_epochs=1").out
    assert "to run" in invoke("run", file, "-n", "--smoke", "--set", "stages.net.epochs=20").out


@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ("backbone: alexnet, learning_rate: 0.1", True),
        ("backbone: vgg16, learning_rate: 0.05", True),
        ("backbone: alexnet", False),
        ("backbone: {name: alexnet, batch_norm: true}, learning_rate: 0.1", False),
        ("backbone: alexnet, learning_rate: 0.1, optimizer: lars", False),
        ("backbone: resnet18, learning_rate: 0.1", False),
    ],
)
def test_a_rate_that_is_known_to_diverge_is_noted(
    invoke: Callable[..., Said], tmp_path: Path, options: str, noted: bool
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"data: drawings\nstages:\n  net: {{uses: pretext/rotation, {options}}}\n")
    assert ("known to diverge" in invoke("run", file, "--dry-run").text) == noted


# deepmind-research, byol/configs/byol.py: learning rate, decay and the average's start by length.
@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("epochs100", (100, 0.45, 1e-6, 0.99)),
        ("epochs300", (300, 0.3, 1e-6, 0.99)),
        ("epochs1000", (1000, 0.2, 1.5e-6, 0.996)),
    ],
)
def test_byols_presets_are_those_of_the_release(preset: str, values: tuple[float, ...]) -> None:
    stage = BYOL(preset=preset)
    assert (stage.epochs, stage.learning_rate, stage.weight_decay, stage.tau) == values
    assert BYOL(preset=preset, tau=0.9).tau == 0.9
    if preset == "epochs300":
        assert BYOL() == stage
