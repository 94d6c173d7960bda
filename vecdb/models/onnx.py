"""A sentence-transformers model from a local folder, run by ONNX Runtime.

Texts of similar length go together, so that little is computed for padding.
In models quantized dynamically the scale of the activations depends on what
else is in the batch: their vectors differ a little from run to run.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from vecdb.models.base import Vectors, finished, require_text
from vecdb.models.config import OnnxConfig
from vecdb.models.errors import EmbeddingError, ModelLoadError
from vecdb.models.fingerprint import Fingerprint, digest_of
from vecdb.models.onnx_folder import OnnxFolder, read_folder

_DTYPES: dict[str, type[np.int64] | type[np.int32]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
# An output of this name is pooled (and normalized) by the graph itself.
_POOLED = "sentence_embedding"
_PER_TOKEN = ("last_hidden_state", "token_embeddings")
# Attention takes memory in the square of the length: at most this many padded
# tokens go in one run, however many texts that is.
_RUN_TOKENS = 16_384


class OnnxEmbedder:
    """Runs a transformer on the processor. Raises ModelLoadError when made."""

    hybrid_weight = 1.0

    def __init__(self, config: OnnxConfig) -> None:
        folder = read_folder(config)
        self.name = config.name
        self.metric = folder.metric
        self.query_prefix = folder.query_prefix
        self.passage_prefix = folder.passage_prefix
        self._folder = folder
        self._batch_size = config.batch_size
        self._tokenizer = _load_tokenizer(folder)
        self._session = _load_session(folder, config.threads)
        self._inputs = _inputs(self._session, folder)
        self._output = _output(self._session)
        self.fingerprint = Fingerprint.take(_digest(folder, self._output), self)
        if config.dim is not None and config.dim != self.dim:
            raise ModelLoadError(f"{config.path} has {self.dim} dimensions, {config.dim} are configured")

    @property
    def dim(self) -> int:
        """See `Embedder`."""
        return self.fingerprint.dim

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; texts beyond the model's length are cut."""
        return self._embed(texts, self.query_prefix)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; texts beyond the model's length are cut."""
        return self._embed(texts, self.passage_prefix)

    def close(self) -> None:
        """Nothing to let go of but memory."""

    def _embed(self, texts: Sequence[str], prefix: str) -> Vectors:
        require_text(texts)
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        try:
            encoded = self._tokenizer.encode_batch_fast([prefix + text for text in texts])
        except Exception as error:  # tokenizers raises Exception itself
            raise EmbeddingError(f"the tokenizer of {self.name!r} fails: {_first_line(error)}") from error
        # Without special tokens a text of unknown words has no token at all,
        # and most graphs fail on a sequence of length 0. Its row stays zero.
        known = sorted((i for i in range(len(encoded)) if encoded[i].ids), key=lambda i: len(encoded[i].ids))
        rows: npt.NDArray[np.float32] | None = None
        for run in self._runs(known, encoded):
            vectors = self._run([encoded[i] for i in run])
            if rows is None:
                rows = np.zeros((len(texts), vectors.shape[1]), dtype=np.float32)
            rows[run] = vectors
        if rows is None:
            rows = np.zeros((len(texts), 1), dtype=np.float32)
        return finished(rows, normalize=self._folder.normalize)

    def _runs(self, order: list[int], encoded: list[Any]) -> Iterator[list[int]]:
        """Cuts texts, shortest first, into runs of bounded size."""
        run: list[int] = []
        for i in order:
            padded = (len(run) + 1) * len(encoded[i].ids)
            if run and (len(run) == self._batch_size or padded > _RUN_TOKENS):
                yield run
                run = []
            run.append(i)
        if run:
            yield run

    def _run(self, encoded: list[Any]) -> npt.NDArray[np.float32]:
        """The (n, dim) vectors of tokenized texts, the longest one last."""
        shape = (len(encoded), len(encoded[-1].ids))
        columns = {name: np.zeros(shape, dtype=np.int64) for name in _INPUTS}
        for row, text in enumerate(encoded):
            length = len(text.ids)
            columns["input_ids"][row, :length] = text.ids
            columns["attention_mask"][row, :length] = 1
            columns["token_type_ids"][row, :length] = text.type_ids
            columns["position_ids"][row, :length] = range(length)
        feed = {name: columns[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        try:
            (output,) = self._session.run([self._output], feed)
        except Exception as error:  # onnxruntime's exceptions share no other base
            raise EmbeddingError(f"the model {self.name!r} fails: {_first_line(error)}") from error
        return self._pooled(np.asarray(output), columns["attention_mask"])

    def _pooled(self, output: npt.NDArray[Any], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        if output.ndim == 2 and len(output) == len(mask):
            return output.astype(np.float32, copy=False)
        if output.ndim != 3 or output.shape[:2] != mask.shape:
            raise ModelLoadError(f"the model {self.name!r} returns shape {output.shape} for {mask.shape}")
        tokens: npt.NDArray[np.float32] = output.astype(np.float32, copy=False)
        match self._folder.pooling:
            case "cls":
                first: npt.NDArray[np.float32] = tokens[:, 0]
                return first
            case "last":
                last: npt.NDArray[np.float32] = tokens[np.arange(len(tokens)), mask.sum(axis=1) - 1]
                return last
            case "mean":
                summed: npt.NDArray[np.float32] = np.einsum("nth,nt->nh", tokens, mask.astype(np.float32))
                summed /= mask.sum(axis=1, keepdims=True)
                return summed


def _load_tokenizer(folder: OnnxFolder) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(folder.tokenizer))
        tokenizer.no_padding()  # files often pad to a fixed length; runs are padded to their own
        tokenizer.enable_truncation(folder.max_tokens)
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelLoadError(f"{folder.tokenizer}: {_first_line(error)}") from error
    return tokenizer


def _load_session(folder: OnnxFolder, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle workers would spin on cores that searches need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(folder.model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no other base
        raise ModelLoadError(f"{folder.model}: {_first_line(error)}") from error


def _inputs(session: ort.InferenceSession, folder: OnnxFolder) -> dict[str, type[np.int64] | type[np.int32]]:
    """What the graph wants to be fed, by name."""
    inputs: dict[str, type[np.int64] | type[np.int32]] = {}
    for entry in session.get_inputs():
        if entry.name not in _INPUTS or entry.type not in _DTYPES:
            raise ModelLoadError(f"{folder.model}: input {entry.name!r} of {entry.type} is not supported")
        inputs[entry.name] = _DTYPES[entry.type]
    return inputs


def _output(session: ort.InferenceSession) -> str:
    """The output to read: what the graph has pooled itself, else its token vectors."""
    names: list[str] = [entry.name for entry in session.get_outputs()]
    return next((name for name in (_POOLED, *_PER_TOKEN) if name in names), names[0])


def _digest(folder: OnnxFolder, output: str) -> str:
    settings = {
        "pooling": folder.pooling,
        "normalize": folder.normalize,
        "max_tokens": folder.max_tokens,
        "output": output,
        "query_prefix": folder.query_prefix,
        "passage_prefix": folder.passage_prefix,
    }
    try:
        return digest_of("onnx", settings, folder.weight_files())
    except OSError as error:
        raise ModelLoadError(f"{folder.model}: {error}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
