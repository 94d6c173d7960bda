"""The bundled model: offline, exact, and safe with any text."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecdb.models import EmbeddingError, Fingerprint, ModelLoadError, WordLlamaConfig
from vecdb.models import wordllama as provider
from vecdb.models.wordllama import WordLlamaEmbedder

TEXTS = ["A replica catches up with its leader.", "Kopien holen ihren Leader ein.", "leader", "x" * 500]


@pytest.fixture(scope="module")
def model() -> WordLlamaEmbedder:
    return WordLlamaEmbedder(WordLlamaConfig(name="wordllama-256"))


def test_it_computes_what_the_package_computes(model: WordLlamaEmbedder) -> None:
    """Vectors agree with WordLlama's own inference on the same bundled files."""
    handlers, level = list(logging.root.handlers), logging.root.level
    import wordllama

    logging.root.handlers[:] = handlers  # importing it configures the root logger
    logging.root.setLevel(level)
    reference = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    expected = reference.embed(TEXTS, norm=True)
    np.testing.assert_allclose(model.embed_passages(TEXTS), expected, atol=1e-6)


def test_loading_it_leaves_logging_alone() -> None:
    """The package's code, which configures the root logger on import, is never imported."""
    script = (
        "import logging, sys\n"
        "from vecdb.models import ModelRegistry, bundled_models\n"
        "ModelRegistry(bundled_models()).get('wordllama-256')\n"
        "assert not logging.root.handlers and 'wordllama' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_vectors_have_unit_length_whatever_the_batch(model: WordLlamaEmbedder) -> None:
    """A text's vector is float32, of length 1, and the same to the bit alone or among others."""
    together = model.embed_queries(TEXTS)
    assert together.dtype == np.float32
    assert together.shape == (len(TEXTS), 256)
    assert together.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_array_equal(model.embed_queries([text])[0], row)


def test_meaning_is_nearer_than_words(model: WordLlamaEmbedder) -> None:
    """A question is nearer to its answer than to a sentence about something else."""
    question = model.embed_queries(["What do cats eat?"])[0]
    food, stars = model.embed_passages(["The kitten was fed fish and meat.", "Stars fuse hydrogen."])
    assert question @ food > question @ stars + 0.1


@pytest.mark.parametrize("dim", [64, 128])
def test_smaller_sizes_are_prefixes_of_the_largest(model: WordLlamaEmbedder, dim: int) -> None:
    """wordllama-64 and -128 are the first components, brought to unit length again."""
    small = WordLlamaEmbedder(WordLlamaConfig(name=f"wordllama-{dim}"))
    cut = model.embed_queries(TEXTS)[:, :dim]
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True)
    np.testing.assert_allclose(small.embed_queries(TEXTS), expected, atol=1e-5)
    assert small.dim == dim
    assert not small.fingerprint.matches(model.fingerprint)


def test_its_identity_is_stable(model: WordLlamaEmbedder) -> None:
    """Loaded twice it matches itself; a prefix makes it another model."""
    again = WordLlamaEmbedder(WordLlamaConfig(name="another-name"))
    assert again.fingerprint == model.fingerprint
    prefixed = WordLlamaEmbedder(WordLlamaConfig(name="wordllama-256", query_prefix="query: "))
    assert not prefixed.fingerprint.matches(model.fingerprint)
    np.testing.assert_array_equal(prefixed.embed_queries(["x"]), model.embed_queries(["query: x"]))
    np.testing.assert_array_equal(prefixed.embed_passages(["x"]), model.embed_passages(["x"]))


def test_texts_without_an_embedding_are_named(model: WordLlamaEmbedder) -> None:
    """Empty and blank texts and lone surrogates are refused by position, all of them."""
    with pytest.raises(EmbeddingError, match="text at position 1 is empty") as single:
        model.embed_passages(["a", ""])
    assert single.value.positions == (1,)
    with pytest.raises(EmbeddingError, match="positions 0, 2 is empty") as several:
        model.embed_passages([" \n", "a", "\u2003"])
    assert several.value.positions == (0, 2)
    with pytest.raises(EmbeddingError, match="position 1 is not valid Unicode"):
        model.embed_queries(["ä", "\ud800"])
    with pytest.raises(EmbeddingError, match="0, 1, 2, 3, 4 and 2 more"):
        model.embed_queries([""] * 7)


def test_no_texts_give_no_vectors(model: WordLlamaEmbedder) -> None:
    """An empty batch is a (0, dim) matrix."""
    assert model.embed_passages([]).shape == (0, 256)
    model.close()


def test_a_long_text_is_embedded_in_blocks(model: WordLlamaEmbedder) -> None:
    """A text of more tokens than a block holds is the mean over all of them."""
    first, second = "alpha " * 6000, "omega " * 6000  # 18,000 tokens; a block holds 8,192
    one, other = model.embed_passages([first + second, second + first])
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert one @ model.embed_passages([first])[0] < 0.9


@settings(max_examples=60)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_any_text_has_a_vector_or_a_reason(model: WordLlamaEmbedder, texts: Sequence[str]) -> None:
    """Whatever the text: finite unit vectors, or an EmbeddingError that names it."""
    if blank := tuple(i for i, text in enumerate(texts) if not text.strip()):
        with pytest.raises(EmbeddingError) as refused:
            model.embed_queries(texts)
        assert refused.value.positions == blank
    else:
        np.testing.assert_allclose(np.linalg.norm(model.embed_queries(texts), axis=1), 1, atol=1e-5)


def test_missing_or_damaged_files_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No package, no files, or files that are something else: ModelLoadError with the name."""
    config = WordLlamaConfig(name="w")
    package = tmp_path / "wordllama"
    package.mkdir()
    # A package of this name found first: what a release with another layout looks like.
    monkeypatch.delitem(sys.modules, "wordllama", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (package / "__init__.py").touch()
    with pytest.raises(ModelLoadError, match="does not bundle l2_supercat_256"):
        WordLlamaEmbedder(config)
    for name in ("weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"):
        (package / name).parent.mkdir()
        (package / name).write_bytes(b"{}")
    with pytest.raises(ModelLoadError, match="cannot read the weights"):
        WordLlamaEmbedder(config)
    _write_weights(package / "weights/l2_supercat_256.safetensors", columns=8)
    with pytest.raises(ModelLoadError, match=r"have shape \(2, 8\)"):
        WordLlamaEmbedder(config)
    _write_weights(package / "weights/l2_supercat_256.safetensors", columns=256)
    with pytest.raises(ModelLoadError, match="cannot read the tokenizer"):
        WordLlamaEmbedder(config)
    (package / "__init__.py").unlink()
    package.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelLoadError, match="not installed"):
        WordLlamaEmbedder(config)


def _write_weights(path: Path, columns: int) -> None:
    from safetensors.numpy import save_file

    save_file({provider._TENSOR: np.ones((2, columns), dtype=np.float16)}, path)


def test_the_pinned_digest() -> None:
    """The identity that catalogues hold today: changing it orphans collections.

    It may change only with the bundled weights, in a release that says so.
    """
    taken = WordLlamaEmbedder(WordLlamaConfig(name="wordllama-256")).fingerprint
    assert isinstance(taken, Fingerprint)
    assert taken.digest.startswith("df96bb23f601")
