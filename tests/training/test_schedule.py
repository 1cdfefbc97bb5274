import itertools
import math

import pytest

from soups.training.schedule import factor


def test_rises_to_one_and_falls_to_zero() -> None:
    factors = [factor(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
    assert factors[10] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert factors[100] == pytest.approx(0.0)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.1), (1, 0.0), (2, 1.0), (3, 0.5)])
def test_no_step_is_wasted_even_in_the_shortest_run(steps: int, warmup: float) -> None:
    assert all(factor(step, steps, warmup) > 0 for step in range(steps))
