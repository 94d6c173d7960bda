"""A tiny embedding model, written byte by byte: a table of token vectors.

ONNX files are protobuf (onnx/onnx.proto in the ONNX specification); the few
messages that a lookup needs are encoded here by hand, so that the tests run
the real ONNX Runtime on a real file without a dependency that writes one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, pre_tokenizers, processors

INT32, INT64, FLOAT = 6, 7, 1
_TYPES = {INT32: "int32", INT64: "int64"}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _tensor(name: str, array: npt.NDArray[np.float32]) -> bytes:
    dims = b"".join(_number(1, n) for n in array.shape)
    return dims + _number(2, FLOAT) + _bytes(8, name) + _bytes(9, array.astype("<f4").tobytes())


def _value(name: str, elem_type: int, shape: Sequence[str]) -> bytes:
    dims = b"".join(_bytes(1, _bytes(2, axis)) for axis in shape)
    tensor_type = _number(1, elem_type) + _bytes(2, dims)
    return _bytes(1, name) + _bytes(2, _bytes(1, tensor_type))


def _node(op: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, op) + attributes


def lookup_model(
    table: npt.NDArray[np.float32],
    *,
    inputs: Mapping[str, int] | None = None,
    output: str = "last_hidden_state",
    pooled_output: str | None = None,
) -> bytes:
    """A model whose token vectors are rows of `table` (tokens x dim).

    `inputs` are further inputs by name and element type, declared and unused,
    as exported models have them. `pooled_output` adds an output with the
    maximum over the tokens, as a graph has that pools by itself.
    """
    declared = {"input_ids": INT64, "attention_mask": INT64, **(inputs or {})}
    nodes = [_node("Gather", ["table", "input_ids"], output)]
    outputs = [_value(output, FLOAT, ["n", "t", "h"])]
    if pooled_output is not None:
        axes = _bytes(5, _bytes(1, "axes") + _number(8, 1) + _number(20, 7))
        keep = _bytes(5, _bytes(1, "keepdims") + _number(3, 0) + _number(20, 2))
        nodes.append(_node("ReduceMax", [output], pooled_output, axes + keep))
        outputs.append(_value(pooled_output, FLOAT, ["n", "h"]))
    graph = b"".join(_bytes(1, node) for node in nodes)
    graph += _bytes(2, "lookup") + _bytes(5, _tensor("table", table))
    graph += b"".join(_bytes(11, _value(name, kind, ["n", "t"])) for name, kind in declared.items())
    graph += b"".join(_bytes(12, value) for value in outputs)
    opset = _bytes(1, "") + _number(2, 17)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, opset)


def word_tokenizer(words: Sequence[str], *, cls: str | None = None, unknown: str | None = None) -> Tokenizer:
    """Words split at white space, numbered in order; `cls` is put before every text."""
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.WordLevel(vocabulary, unk_token=unknown) if unknown else models.WordLevel(vocabulary)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if cls is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A", special_tokens=[(cls, vocabulary[cls])]
        )
    return tokenizer


def letter_tokenizer(letters: str) -> Tokenizer:
    """One token a letter, numbered in order; other letters vanish."""
    return Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))


def write_model(
    folder: Path,
    table: npt.NDArray[np.float32],
    tokenizer: Tokenizer,
    *,
    at: str = "model.onnx",
    **options: object,
) -> Path:
    """Writes a lookup model and its tokenizer; returns the folder."""
    path = folder / at
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lookup_model(table, **options))  # type: ignore[arg-type]
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
