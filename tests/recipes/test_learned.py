"""The learned soup: toys with a known answer, resuming, budgets and memory."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from soups.core.errors import DataError, UsageError
from soups.recipes.learned import learned
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.mixing import mix_states
from soups.recipes.shared.pool import Ingredient, Pool
from soups.recipes.shared.resume import ReplayJudge
from tests.recipes.learning_toys import State, Toy, pool_of


def test_each_block_takes_the_model_that_is_good_at_it() -> None:
    toy = Toy()
    whole, headless, bad = toy.ingredient(0, 0.0, 3.0), toy.ingredient(1, 3.0, 0.0), toy.ingredient(2, 3.0, 3.0)
    soup = learned(Pool((whole, headless, bad)), toy, steps=150, rate=0.2)
    coarse = learned(Pool((whole, headless, bad)), toy, per="model", steps=150, rate=0.2)
    last = soup.decisions[-1]
    assert last["candidate"] == "learned" and last["accepted"]
    assert last["log_loss"] < 0.75 * toy(coarse.state).log_loss < min(part.log_loss for part in soup.ingredients)
    place = {part.name: index for index, part in enumerate(soup.ingredients)}
    shares = soup.options["coefficients"]
    assert max(range(3), key=lambda i: shares["backbone.0"][i]) == place["m0"]
    assert max(range(3), key=lambda i: shares["head"][i]) == place["m1"]
    assert toy(soup.state).score == soup.score


def test_every_order_gives_the_same_bits_and_so_does_remaking() -> None:
    toy = Toy(parts=4)
    pool = pool_of(toy, 5)
    soups = [learned(Pool(tuple(order)), toy, steps=9) for order in (pool.ingredients, pool.ingredients[::-1])]
    assert soups[0].decisions == soups[1].decisions and soups[0].coefficients == soups[1].coefficients
    options = json.loads(json.dumps(soups[0].options))
    again = mix_states(soups[0].ingredients, soups[0].coefficients, options)
    for key, tensor in soups[0].state.items():
        assert torch.equal(tensor, soups[1].state[key]) and torch.equal(tensor, again[key])
    assert soups[0].options["steps"] == 9 and soups[0].ingredients == soups[1].ingredients
    assert [part.sha256 for part in soups[0].ingredients] == sorted(part.sha256 for part in pool.ingredients)
    other = learned(pool, toy, steps=9, seed=1)
    assert other.options["coefficients"] != soups[0].options["coefficients"]


def test_ingredients_do_not_change() -> None:
    toy = Toy()
    pool = pool_of(toy)
    before = [{key: tensor.clone() for key, tensor in part.load().items()} for part in pool.ingredients]
    learned(pool, toy, steps=3)
    for part, state in zip(pool.ingredients, before, strict=True):
        assert all(torch.equal(tensor, state[key]) for key, tensor in part.load().items())


class UphillToy(Toy):
    """Gives gradients that lead uphill."""

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        loss, gradient = super().gradient(state, seed)
        return loss, {key: -tensor for key, tensor in gradient.items()}


def test_learned_coefficients_with_a_higher_log_loss_are_rejected() -> None:
    toy = UphillToy()
    soup = learned(pool_of(toy), toy, begin="uniform", steps=10)
    assert not soup.decisions[-1]["accepted"]
    assert "did not lower the log-loss, so it is the uniform soup" in soup.summary
    assert soup.coefficients == pytest.approx([0.25] * 4)
    mean = {key: torch.stack([part.load()[key].double() for part in soup.ingredients]).mean(0) for key in soup.state}
    for key, tensor in soup.state.items():
        torch.testing.assert_close(tensor, mean[key].float())
    assert soup.score == toy(soup.state).score


def test_begin_greedy_takes_the_better_of_greedy_and_uniform() -> None:
    toy = Toy()
    for scales, name in (((0.3, 0.4, 6.0, 7.0), "the mean of"), ((1.0, 1.0, 1.0, 1.0), "the uniform soup")):
        pool = Pool(tuple(toy.ingredient(index, scale, scale) for index, scale in enumerate(scales)))
        soup = learned(pool, toy, begin="greedy", steps=0)
        assert f"from {name}" in soup.summary and "nothing was left to learn" in soup.summary
        order = sorted(pool.ingredients, key=lambda part: part.log_loss)
        kept, loss = [order[0]], order[0].log_loss
        for part in order[1:2]:
            if toy(mean([*kept, part])).log_loss <= loss:
                kept.append(part)
                loss = toy(mean(kept)).log_loss
        expected = kept if loss <= toy(mean(order)).log_loss else order
        assert [part for part, share in zip(soup.ingredients, soup.coefficients, strict=True) if share > 0] == sorted(
            expected, key=lambda part: part.sha256
        )
        assert (name == "the uniform soup") == (len(expected) == 4)


def test_begin_between_is_half_way_and_the_best_initial_soup_is_kept() -> None:
    for scales, expected in (((0.3, 4.0, 6.0, 7.0), "the mean of 1"), ((1.0, 1.1, 1.5, 1.5), "half-way")):
        toy = UphillToy()
        pool = Pool(tuple(toy.ingredient(index, scale, scale) for index, scale in enumerate(scales)))
        soup = learned(pool, toy, steps=4, rate=1.0)
        assert "half-way between the mean of" in soup.summary and f"so it is {expected}" in soup.summary
        greedy = learned(pool, toy, begin="greedy", steps=0)
        shares = [1 / 8 + share / 2 for share in greedy.coefficients]
        halfway = mix_states(soup.ingredients, shares, {"per": "model", "coefficients": {"all": shares}})
        losses = {"the mean of 1": toy(greedy.state).log_loss, "half-way": toy(halfway).log_loss}
        assert min(losses, key=losses.__getitem__) == expected
        assert toy(soup.state).log_loss == pytest.approx(losses[expected])


@pytest.mark.parametrize("begin", ["between", "uniform"])
def test_an_interrupted_run_resumes_where_its_record_ends(begin: str) -> None:
    toy = Toy(parts=4)
    pool, log = pool_of(toy, 5), []  # type: ignore[var-annotated]

    class Interrupted(Exception):
        pass

    class Counted(Toy):
        gradients = 0

        def gradient(self, state: State, seed: int) -> tuple[float, State]:
            Counted.gradients += 1
            return super().gradient(state, seed)

    whole = learned(pool, toy, begin=begin, steps=20)  # type: ignore[arg-type]
    assert [line["candidate"] for line in whole.decisions[-4:]] == ["step 8", "step 16", "step 20", "learned"]
    for lines in range(1, len(whole.decisions) + 1):

        def write(line: dict, lines: int = lines) -> None:
            log.append(json.loads(json.dumps(line, allow_nan=False)))
            if len(log) == lines:
                raise Interrupted

        log.clear()
        with pytest.raises(Interrupted):
            learned(pool, toy, begin=begin, steps=20, on_decision=write)  # type: ignore[arg-type]
        Counted.gradients, done = 0, max([0, *(int(line["candidate"][5:]) for line in log if "memory" in line)])
        replay = ReplayJudge(Counted(parts=4), list(log))
        soup = learned(pool, replay, begin=begin, steps=20, on_decision=log.append)  # type: ignore[arg-type]
        assert Counted.gradients == 20 - done
        assert log == list(whole.decisions) == list(soup.decisions)
        assert soup.options == whole.options and soup.summary == whole.summary and soup.score == whole.score
        assert all(torch.equal(soup.state[key], whole.state[key]) for key in whole.state)


def mean(parts: list[Ingredient]) -> State:
    return {key: torch.stack([part.load()[key] for part in parts]).double().mean(0).float() for key in parts[0].load()}


def test_a_spent_budget_leaves_out_the_descent() -> None:
    toy = Toy()
    soup = learned(pool_of(toy), BudgetedJudge(toy, evaluations=0), steps=5)  # type: ignore[arg-type]
    assert soup.options["steps"] == 0 and "nothing was left to learn" in soup.summary
    assert sorted(soup.coefficients) == [0, 0, 0, 1]


def test_the_soup_of_one_model_is_that_model() -> None:
    toy = Toy()
    pool = pool_of(toy, 1)
    soup = learned(pool, toy)
    assert soup.coefficients == (1.0,) and torch.equal(soup.state["head.bias"], pool.ingredients[0].load()["head.bias"])


def test_invalid_options_and_ingredients_are_errors() -> None:
    toy = Toy()
    pool = pool_of(toy)
    with pytest.raises(UsageError, match=r"kind of coefficients(?s:.*)layer(?s:.*)model, block, tensor"):
        learned(pool, toy, per="layer")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"initialization(?s:.*)between, greedy, uniform"):
        learned(pool, toy, begin="best")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"learned: steps(?s:.*)whole number from 0 on(?s:.*)-1"):
        learned(pool, toy, steps=-1)
    with pytest.raises(UsageError, match=r"learned: seed(?s:.*)whole number from 0 on"):
        learned(pool, toy, seed=-1)
    for rate in (0.0, math.nan, math.inf):
        with pytest.raises(UsageError, match=r"learned: rate"):
            learned(pool, toy, rate=rate)
    state = {**pool.ingredients[1].load(), "head.bias": torch.tensor([0.0, math.nan, 0.0])}
    broken = Ingredient("broken", "ff", 0.1, 9.0, lambda: state)
    with pytest.raises(DataError, match=r"broken: tensor 'head.bias' holds NaN"):
        learned(Pool((*pool.ingredients, broken)), toy)
    with pytest.raises(DataError, match=r"head\.bias"):
        small = Ingredient("small", "fe", 0.1, 9.0, lambda: {**state, "head.bias": torch.zeros(2)})
        learned(Pool((*pool.ingredients, small)), toy)


SCRIPT = """
import sys, pathlib, torch
from torch import nn
from safetensors.torch import load_file
from soups.evaluation.gradients import assign_weights
from soups.recipes.learned import learned
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from soups.recipes.shared.resume import ReplayJudge
torch.set_num_threads(1)
class Judge:
    def __init__(self, state):
        self.network = nn.ParameterDict({key: torch.zeros_like(value) for key, value in state.items()})
    def __call__(self, state, accept=None):
        assign_weights(self.network, state)
        return Verdict(0.5, 1, 2, log_loss=float(sum((p.detach() ** 2).mean() for p in self.network.parameters())))
    def gradient(self, state, seed):
        assign_weights(self.network, state)
        loss = sum((parameter * parameter).mean() for parameter in self.network.parameters())
        loss.backward()
        gradient = {key: parameter.grad for key, parameter in self.network.items()}
        self.network.zero_grad(set_to_none=True)
        return float(loss.detach()), gradient
def own():
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])
files = sorted(pathlib.Path(sys.argv[1]).glob("*.safetensors"))
def ingredient(path):
    return Ingredient(path.stem, path.stem, 0.5, 1.0, lambda: load_file(path), mapped=True)
small = [{"w0": torch.randn(9)} for _ in range(2)]
parts = [Ingredient(f"{i}", f"{i}", 0.5, 1.0, lambda state=state: state) for i, state in enumerate(small)]
learned(Pool(tuple(parts)), Judge(small[0]), steps=2)  # Libraries allocate their own memory.
import threading, time
peak, before, done = [0], own(), threading.Event()
def watch():
    while not done.is_set():
        peak[0] = max(peak[0], own())
        time.sleep(0.001)
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
judge = Judge(load_file(files[0]))
soup = learned(Pool(tuple(map(ingredient, files))), judge, steps=4)
done.set()
watcher.join()
print(len(soup.ingredients), soup.options["steps"], peak[0] - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_three_models_for_any_number_of_ingredients(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    for index in range(12):
        tensors = {f"w{block}": torch.randn(2**19, generator=generator) for block in range(4)}  # 8 MiB.
        save_file(tensors, tmp_path / f"m{index:02}.safetensors")
    # Freed memory goes back to the system at once: what is counted is what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    script = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    number, steps, peak = map(int, script.stdout.split())
    assert (number, steps) == (12, 4)
    assert peak <= 3 * 8 * 2**20
