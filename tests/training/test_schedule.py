import itertools
import math

import pytest
import torch

from soups.training.schedule import DECAYING, SCHEDULES, Decay, lr_factor

FALLS = Decay(every=20, rate=0.5)


def test_rises_to_one_and_falls_to_zero() -> None:
    factors = [lr_factor(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert factors[100] == pytest.approx(0.0)


def test_the_default_schedule_is_bit_for_bit_unchanged() -> None:
    for steps, warmup in itertools.product((1, 7, 100, 333), (0.0, 0.1, 0.37)):
        rising = warmup * steps
        for step in range(steps):
            before = 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))
            assert lr_factor(step, steps, warmup) == ((step + 1) / (rising + 1) if step < rising else before)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (1, 0.0), (2, 1.0), (3, 0.5)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_step_is_wasted_even_in_the_shortest_run(steps: int, warmup: float, schedule: str) -> None:
    assert all(lr_factor(step, steps, warmup, schedule, FALLS) > 0 for step in range(steps))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_all_schedules_have_the_same_warm_up(schedule: str) -> None:
    assert [lr_factor(step, 100, 0.1, schedule, FALLS) for step in range(11)] == [(step + 1) / 11 for step in range(11)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant", "step", "exponential"])
def test_without_a_warm_up_schedules_equal_those_of_torch(schedule: str) -> None:
    from torch.optim import lr_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, T_max=90),
        "linear": lambda: lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=90),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "step": lambda: lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5),
        "exponential": lambda: lr_scheduler.ExponentialLR(optimizer, gamma=0.5 ** (1 / 20)),
    }[schedule]()
    for step in range(90):
        assert lr_factor(step, 90, 0.0, schedule, FALLS) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_decays_count_from_the_end_of_the_warm_up() -> None:
    assert [lr_factor(step, 100, 0.1, "step", FALLS) for step in (10, 29, 30, 49, 50)] == [1, 1, 0.5, 0.5, 0.25]


def test_known_schedules() -> None:
    assert list(SCHEDULES) == ["cosine", "linear", "constant", "step", "exponential", "plateau"]
    assert set(DECAYING) < set(SCHEDULES)
