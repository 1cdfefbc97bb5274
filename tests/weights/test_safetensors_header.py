"""Headers against the bytes that safetensors itself writes."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from soups.core.errors import DataError
from soups.weights.safetensors_header import file_order, header_bytes, layout_of, read_header, tensor_contents

DTYPES = [
    *(torch.uint64, torch.int64, torch.float64, torch.complex64, torch.float32, torch.uint32, torch.int32),
    *(torch.bfloat16, torch.float16, torch.uint16, torch.int16, torch.int8, torch.uint8, torch.bool),
    *(torch.float8_e5m2, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.float8_e4m3fnuz),
]
LETTERS = "Bßa_\u2028😀"


def a_state() -> dict[str, torch.Tensor]:
    """Every dtype in three shapes, under names that sort otherwise than they come, and that JSON has to escape."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, dtype in enumerate(reversed(DTYPES)):
        for shape in ((2, 3), (), (0, 4)):
            size = int(torch.tensor(shape).prod()) * torch.empty(0, dtype=dtype).element_size()
            content = torch.randint(0, 2, (size,), dtype=torch.uint8, generator=generator)
            state[f"{LETTERS[number % 6]}.{number}.{shape}"] = content.view(dtype).view(shape)
    return state | {'quote" tab\t\x01 back\\ slash/ \x7f\n': torch.ones(3), "": torch.zeros(1)}


@pytest.mark.parametrize("metadata", [{"card": '{"a":"müsli \\u00e9 \\" \n"}'}, {"card": ""}])
@pytest.mark.parametrize("state", [a_state(), {}, {"one": torch.ones(2)}])
def test_bytes_are_those_of_safetensors(state: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    written = header_bytes(layout_of(state), metadata) + b"".join(
        bytes(content) for content, _ in tensor_contents(state)
    )
    assert written == save(state, metadata)


def test_written_headers_are_read(tmp_path: Path) -> None:
    state = a_state()
    save_file(state, tmp_path / "a.safetensors", metadata={"card": "x"})
    metadata, layout = read_header(tmp_path / "a.safetensors")
    assert metadata == {"card": "x"}
    assert layout == layout_of(state) == {key: (tuple(t.shape), str(t.dtype)[6:]) for key, t in state.items()}
    assert list(layout) == file_order(layout)


def test_an_unknown_dtype_keeps_its_code(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}).encode()
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    assert read_header(tmp_path / "a")[1] == {"a": ((2,), "F4")}


def test_only_tensors_that_are_not_contiguous_are_copied() -> None:
    whole = torch.arange(12.0).view(3, 4)
    parts = {"a": whole, "b": whole, "c": whole[1:], "d": whole.T, "e": whole[:, 1]}
    found = dict(zip(file_order(layout_of(parts)), tensor_contents(parts), strict=True))
    assert [copied for _, copied in found.values()] == [False, False, False, True, True]
    for key, (content, _) in found.items():
        assert bytes(content) == parts[key].contiguous().numpy().tobytes()


def test_a_dtype_that_the_format_lacks_is_named() -> None:
    with pytest.raises(DataError, match=r"tensor 'z' cannot be written\n  expected: one of .*float32.*\n.*complex128"):
        header_bytes(layout_of({"a": torch.ones(1), "z": torch.ones(1, dtype=torch.complex128)}), {})
