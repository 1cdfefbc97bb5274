import torch

from soups.training.mixup import mix_batch


def test_mixes_pairs_with_one_share_decided_by_the_seed() -> None:
    inputs = torch.arange(4 * 3 * 2 * 2, dtype=torch.float32).reshape(4, 3, 2, 2)
    original = inputs.clone()
    mixed, partners, share = mix_batch(inputs, 0.5, seed=3)
    assert torch.equal(inputs, original)
    assert sorted(partners.tolist()) == [0, 1, 2, 3]
    assert 0 <= share <= 1
    expected = torch.stack([share * inputs[i] + (1 - share) * inputs[partners[i]] for i in range(4)])
    assert torch.allclose(mixed, expected)
    again, _, _ = mix_batch(inputs, 0.5, seed=3)
    other, _, _ = mix_batch(inputs, 0.5, seed=4)
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, other)
