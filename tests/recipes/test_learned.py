"""The learned soup against autograd with all models in memory, finite differences and a toy with a known answer."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from soups.core.errors import DataError, UsageError
from soups.recipes.learned import learned
from soups.recipes.shared.budget import BudgetedJudge
from soups.recipes.shared.mixing import Mixture, coefficient_gradients, find_block, map_blocks, mean_shares, mix_states
from soups.recipes.shared.pool import Ingredient, Pool, Verdict
from soups.recipes.shared.resume import ReplayJudge

State = Mapping[str, torch.Tensor]


class Toy:
    """A judge of a small network on images of its own, all of them in every batch or half of them."""

    def __init__(self, seed: int = 0, parts: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.network = nn.Sequential()
        self.network.add_module("backbone", nn.Sequential(nn.Linear(6, 5), nn.Tanh()))
        self.network.add_module("head", nn.Linear(5, 3))
        for parameter in self.network.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.images = torch.randn(200, 6, generator=generator)
        self.labels = self.network(self.images).argmax(1)
        self.parts = parts
        self.judged: list[State] = []

    def loss(self, state: State, rows: slice = slice(None)) -> torch.Tensor:
        logits = functional_call(self.network, dict(state), (self.images[rows],))
        return F.cross_entropy(logits, self.labels[rows])

    def __call__(self, state: State, accept: object = None) -> Verdict:
        self.judged.append(state)
        with torch.no_grad():
            logits = functional_call(self.network, dict(state), (self.images,))
        errors = int((logits.argmax(1) != self.labels).sum())
        loss = float(F.cross_entropy(logits.double(), self.labels))
        return Verdict(1 - errors / 200, errors, 200, log_loss=loss)

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        leaves = {key: tensor.clone().requires_grad_() for key, tensor in state.items()}
        loss = self.loss(leaves, slice((seed + (seed >> 32)) % self.parts, None, self.parts))
        loss.backward()
        return float(loss.detach()), {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}

    def fisher(self, state: State, seed: int) -> State:
        raise AssertionError

    def ingredient(self, index: int, noise: float, head_noise: float = 0.0) -> Ingredient:
        """The true weights with errors of its own."""
        generator = torch.Generator().manual_seed(100 + index)
        state = {
            key: tensor
            + (head_noise if key.startswith("head") else noise) * torch.randn(tensor.shape, generator=generator)
            for key, tensor in self.network.state_dict().items()
        }
        verdict = self(state)
        return Ingredient(f"m{index}", f"{7 * index % 5}{index}", verdict.score, verdict.log_loss, lambda: state)


def pool_of(toy: Toy, number: int = 4) -> Pool:
    return Pool(tuple(toy.ingredient(index, 0.5, 0.5) for index in range(number)))


@pytest.mark.parametrize("per", ["model", "block", "tensor"])
def test_slopes_are_those_of_autograd_and_of_finite_differences(per: str) -> None:
    toy, pool = Toy(), pool_of(Toy())
    toy.network.double()
    toy.images = toy.images.double()
    states = [{key: tensor.double() for key, tensor in part.load().items()} for part in pool.ingredients]
    blocks = map_blocks(states[0], per)
    generator = np.random.default_rng(0)
    shares = {block: generator.normal(size=4) for block in blocks.values()}
    _, gradient = toy.gradient(Mixture(states, blocks, shares), 0)
    found = coefficient_gradients(gradient, states, blocks)

    leaves = {block: torch.tensor(values, requires_grad=True) for block, values in shares.items()}
    merged = {
        key: sum(leaves[block][i] * state[key] for i, state in enumerate(states)) for key, block in blocks.items()
    }
    toy.loss(merged).backward()
    assert len(found) == {"model": 1, "block": 2, "tensor": 4}[per]
    for block, values in found.items():
        np.testing.assert_allclose(values, leaves[block].grad.numpy(), rtol=1e-9)
        for index in range(4):
            losses = []
            for step in (1e-6, -1e-6):
                moved = {name: np.array(numbers) for name, numbers in shares.items()}
                moved[block][index] += step
                losses.append(float(toy.loss(Mixture(states, blocks, moved)).detach()))
            assert values[index] == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4, abs=1e-6)


def slow_adam(toy: Toy, states: list[State], blocks: Mapping[str, str], steps: int, rate: float) -> dict:
    """The same descent by torch, with every model in memory."""
    free = {block: torch.zeros(len(states), dtype=torch.float64, requires_grad=True) for block in blocks.values()}

    def shares() -> dict[str, torch.Tensor]:
        return {block: 1 / len(states) + z - z.mean() for block, z in free.items()}

    adam = torch.optim.Adam(free.values(), lr=rate, betas=(0.9, 0.95), eps=1e-12)
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        adam.zero_grad()
        weights = shares()
        merged = {
            key: sum(weights[block][i] * state[key] for i, state in enumerate(states)).float()
            for key, block in blocks.items()
        }
        toy.loss(merged, slice(step % toy.parts, None, toy.parts)).backward()
        adam.step()
    return {block: values.detach().numpy() for block, values in shares().items()}


@pytest.mark.parametrize("per", ["model", "block", "tensor"])
def test_the_descent_is_that_of_torch(per: str) -> None:
    toy = Toy(parts=2)
    pool = pool_of(toy)
    soup = learned(pool, toy, per=per, begin="uniform", steps=20, rate=0.05)  # type: ignore[arg-type]
    states = [part.load() for part in soup.ingredients]
    blocks = map_blocks(states[0], per)
    expected = slow_adam(toy, states, blocks, 20, 0.05 / 2)
    assert soup.options["coefficients"].keys() == expected.keys()
    for block, values in expected.items():
        np.testing.assert_allclose(soup.options["coefficients"][block], values, atol=2e-5)
        assert sum(soup.options["coefficients"][block]) == pytest.approx(1)


def test_it_finds_who_is_good_at_what() -> None:
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


def test_every_order_gives_the_same_bits_and_the_card_makes_them_again() -> None:
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


def test_nothing_that_the_caller_holds_is_changed() -> None:
    toy = Toy()
    pool = pool_of(toy)
    before = [{key: tensor.clone() for key, tensor in part.load().items()} for part in pool.ingredients]
    learned(pool, toy, steps=3)
    for part, state in zip(pool.ingredients, before, strict=True):
        assert all(torch.equal(tensor, state[key]) for key, tensor in part.load().items())


class Contrary(Toy):
    """Gives gradients that lead uphill."""

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        loss, gradient = super().gradient(state, seed)
        return loss, {key: -tensor for key, tensor in gradient.items()}


class Broken(Toy):
    """Gives no numbers from the third gradient on."""

    def gradient(self, state: State, seed: int) -> tuple[float, State]:
        loss, gradient = super().gradient(state, seed)
        return (math.nan if seed % 2**32 >= 2 else loss), gradient


def test_what_does_not_help_is_not_taken() -> None:
    toy = Contrary()
    soup = learned(pool_of(toy), toy, begin="uniform", steps=10)
    assert not soup.decisions[-1]["accepted"]
    assert "did not lower the log-loss, so it is the uniform soup" in soup.summary
    assert soup.coefficients == pytest.approx([0.25] * 4)
    mean = {key: torch.stack([part.load()[key].double() for part in soup.ingredients]).mean(0) for key in soup.state}
    for key, tensor in soup.state.items():
        torch.testing.assert_close(tensor, mean[key].float())
    assert soup.score == toy(soup.state).score


def test_it_stops_where_the_loss_is_no_number() -> None:
    toy = Broken()
    soup = learned(pool_of(toy), toy, steps=10)
    assert math.isfinite(toy(soup.state).log_loss)
    assert toy(soup.state).log_loss <= min(part.log_loss for part in soup.ingredients)


def test_it_begins_at_the_better_of_greedy_and_uniform() -> None:
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


def test_half_way_is_half_way_and_the_best_of_all_is_kept() -> None:
    for scales, expected in (((0.3, 4.0, 6.0, 7.0), "the mean of 1"), ((1.0, 1.1, 1.5, 1.5), "half-way")):
        toy = Contrary()
        pool = Pool(tuple(toy.ingredient(index, scale, scale) for index, scale in enumerate(scales)))
        soup = learned(pool, toy, steps=4, rate=1.0)
        assert "half-way between the mean of" in soup.summary and f"so it is {expected}" in soup.summary
        greedy = learned(pool, toy, begin="greedy", steps=0)
        shares = [1 / 8 + share / 2 for share in greedy.coefficients]
        halfway = mix_states(soup.ingredients, shares, {"per": "model", "coefficients": {"all": shares}})
        losses = {"the mean of 1": toy(greedy.state).log_loss, "half-way": toy(halfway).log_loss}
        assert min(losses, key=losses.__getitem__) == expected
        assert toy(soup.state).log_loss == pytest.approx(losses[expected])


def test_a_killed_run_goes_on_where_its_record_ends() -> None:
    toy = Toy(parts=4)
    pool, log = pool_of(toy, 5), []  # type: ignore[var-annotated]

    class Killed(Exception):
        pass

    class Counted(Toy):
        gradients = 0

        def gradient(self, state: State, seed: int) -> tuple[float, State]:
            Counted.gradients += 1
            return super().gradient(state, seed)

    whole = learned(pool, toy, steps=20)
    assert [line["candidate"] for line in whole.decisions[-4:]] == ["step 8", "step 16", "step 20", "learned"]
    for death in range(1, len(whole.decisions) + 1):

        def write(line: dict, death: int = death) -> None:
            log.append(json.loads(json.dumps(line, allow_nan=False)))
            if len(log) == death:
                raise Killed

        log.clear()
        with pytest.raises(Killed):
            learned(pool, toy, steps=20, on_decision=write)
        Counted.gradients, done = 0, max([0, *(int(line["candidate"][5:]) for line in log if "memory" in line)])
        soup = learned(pool, ReplayJudge(Counted(parts=4), list(log)), steps=20, on_decision=log.append)  # type: ignore[arg-type]
        assert Counted.gradients == 20 - done
        assert log == list(whole.decisions) == list(soup.decisions)
        assert soup.options == whole.options and soup.summary == whole.summary and soup.score == whole.score
        assert all(torch.equal(soup.state[key], whole.state[key]) for key in whole.state)


def mean(parts: list[Ingredient]) -> State:
    return {key: torch.stack([part.load()[key] for part in parts]).double().mean(0).float() for key in parts[0].load()}


def test_a_spent_budget_ends_it() -> None:
    toy = Toy()
    soup = learned(pool_of(toy), BudgetedJudge(toy, evaluations=0), steps=5)  # type: ignore[arg-type]
    assert soup.options["steps"] == 0 and "nothing was left to learn" in soup.summary
    assert sorted(soup.coefficients) == [0, 0, 0, 1]


def test_the_only_model_is_the_soup() -> None:
    toy = Toy()
    pool = pool_of(toy, 1)
    soup = learned(pool, toy)
    assert soup.coefficients == (1.0,) and torch.equal(soup.state["head.bias"], pool.ingredients[0].load()["head.bias"])


def test_counters_are_those_of_the_first_and_shares_are_weighted_by_size() -> None:
    states = [{"backbone.w": torch.full((9,), float(i)), "head.b": torch.ones(1), "n": torch.tensor(i)} for i in (5, 7)]
    parts = tuple(Ingredient(f"m{i}", f"{i}", 0.5, 0.5, lambda state=state: state) for i, state in enumerate(states))
    options = {"per": "block", "coefficients": {"stem": [1.5, -0.5], "head": [0.0, 1.0]}}
    state = mix_states(parts, (), options)
    assert state["n"] == 5 and torch.equal(state["backbone.w"], torch.full((9,), 4.0))
    shares = mean_shares(states[0], map_blocks(states[0], "block"), options["coefficients"])  # type: ignore[arg-type]
    assert shares == pytest.approx((0.9 * 1.5, 0.9 * -0.5 + 0.1))


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("head.weight", "head"),
        ("backbone.class_embedding", "stem"),
        ("backbone.conv1.weight", "stem"),
        ("backbone.ln_pre.bias", "stem"),
        ("backbone.transformer.resblocks.11.attn.in_proj_weight", "backbone.transformer.resblocks.11"),
        ("backbone.ln_post.weight", "end"),
        ("backbone.proj", "end"),
        ("backbone.attnpool.positional_embedding", "end"),
        ("backbone.layer1.0.downsample.0.weight", "backbone.layer1.0"),
        ("backbone.patch_embed.proj.weight", "stem"),
        ("backbone.blocks.3.mlp.fc1.weight", "backbone.blocks.3"),
        ("backbone.blocks.2.1.conv_dw.weight", "backbone.blocks.2.1"),
        ("backbone.stages.2.blocks.5.norm.weight", "backbone.stages.2.blocks.5"),
        ("backbone.stages.1.downsample.0.weight", "backbone.stages.1"),
        ("backbone.norm.weight", "end"),
        ("backbone.norm_pre.weight", "stem"),
        ("backbone.fc_norm.bias", "end"),
        ("backbone.conv_head.weight", "end"),
        ("w", "stem"),
    ],
)
def test_blocks_of_open_clip_and_timm(key: str, block: str) -> None:
    assert find_block(key) == block


def test_mistakes_are_explained() -> None:
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
    with pytest.raises(UsageError, match=r"coefficients of a mixture(?s:.*)4 numbers for each of(?s:.*)3 for all"):
        mix_states(pool.ingredients, (), {"per": "model", "coefficients": {"all": [1, 2, 3]}})
    state = {**pool.ingredients[1].load(), "head.bias": torch.tensor([0.0, math.nan, 0.0])}
    broken = Ingredient("sick", "ff", 0.1, 9.0, lambda: state)
    with pytest.raises(DataError, match=r"sick: tensor 'head.bias' holds NaN"):
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
learned(Pool(tuple(parts)), Judge(small[0]), steps=2)  # Whatever libraries take is taken.
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
def test_memory_is_three_models_whatever_the_number(tmp_path: Path) -> None:
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
