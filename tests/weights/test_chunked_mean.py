"""Means chunk by chunk against the same sums on whole tensors."""

import pytest
import torch

from soups.weights.chunked_mean import chunked_means


def columns(dtype: torch.dtype) -> dict[str, list[torch.Tensor]]:
    """Four tensors under each name, of sizes around that of a chunk, some of them not contiguous."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (3, 5), "b": (7,), "c": (), "d": (0, 4), "e": (2, 7)}
    made = {key: [torch.randn(shape, generator=generator).to(dtype) for _ in range(4)] for key, shape in shapes.items()}
    turned = torch.randn(4, 5, 3, generator=generator).to(dtype)
    return made | {
        "turned": [part.T for part in turned],
        "mixed": [*turned[:3].transpose(1, 2), turned[3].T.contiguous()],
    }


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_chunks_give_the_bits_of_whole_tensors(
    threads: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("soups.weights.chunked_mean._CHUNK", 7)
    tensors, weights = columns(dtype), [0.3, 2.0, -0.5, 1.0]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = chunked_means(tensors, weights, 2.8)
        assert torch.get_num_threads() == threads  # The caller's setting is restored.
    finally:
        torch.set_num_threads(before)
    assert list(found) == list(tensors)
    for key, column in tensors.items():
        total = column[0].double() * weights[0]
        for part, weight in zip(column[1:], weights[1:], strict=True):
            total.add_(part.double(), alpha=weight)
        expected = (total / 2.8).to(dtype)
        assert found[key].is_contiguous() and found[key].dtype == dtype
        assert torch.equal(found[key], expected)


def test_the_number_of_threads_is_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError):
        chunked_means({"a": [torch.ones(2), torch.ones(3)]}, [1.0, 1.0], 2.0)
    assert torch.get_num_threads() == before


def test_no_tensors_give_no_means() -> None:
    assert chunked_means({}, [1.0], 1.0) == {}
