"""The ONNX provider, on real files and the real runtime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny_onnx import (
    FLOAT,
    INT32,
    INT64,
    letter_tokenizer,
    lookup_model,
    word_tokenizer,
    write_model,
)
from vecdb.models import EmbeddingError, ModelLoadError, OnnxConfig
from vecdb.models.onnx import OnnxEmbedder

WORDS = ["[CLS]", "[UNK]", "red", "green", "blue", "query:", "passage:"]
TABLE = np.random.default_rng(3).standard_normal((len(WORDS), 6)).astype(np.float32)
ROW = dict(zip(WORDS, TABLE, strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path, TABLE, word_tokenizer(WORDS, cls="[CLS]", unknown="[UNK]"))


def load(folder: Path, **options: Any) -> OnnxEmbedder:
    return OnnxEmbedder(OnnxConfig(kind="onnx", name="tiny", path=folder, threads=1, **options))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_token_vectors_are_averaged_under_the_mask(folder: Path) -> None:
    """By default a text is the mean of its own tokens, however long its neighbours are."""
    model = load(folder)
    got = model.embed_passages(["red green blue red", "red"])
    long = np.mean([ROW[w] for w in ("[CLS]", "red", "green", "blue", "red")], axis=0)
    np.testing.assert_allclose(got, [long, (ROW["[CLS]"] + ROW["red"]) / 2], atol=1e-6)
    assert got.dtype == np.float32
    assert (model.dim, model.metric) == (6, "cosine")
    model.close()


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ROW["[CLS]"]),
        ({"pooling_mode_mean_tokens": True}, (ROW["[CLS]"] + ROW["red"]) / 2),
        ({"pooling_mode_lasttoken": True}, ROW["red"]),
        ({"pooling_mode": "cls"}, ROW["[CLS]"]),
        ({"word_embedding_dimension": 6}, (ROW["[CLS]"] + ROW["red"]) / 2),
    ],
)
def test_pooling_comes_from_the_folder(folder: Path, pooling: dict[str, Any], expected: np.ndarray) -> None:
    """Every supported form of sentence-transformers' pooling file is obeyed."""
    write_json(folder / "1_Pooling/config.json", pooling)
    got = load(folder).embed_passages(["red", "green blue blue"])
    np.testing.assert_allclose(got[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["mean"]},
    ],
)
def test_pooling_that_is_not_supported_is_refused(folder: Path, pooling: dict[str, Any]) -> None:
    """A model is refused rather than pooled otherwise than it was trained."""
    write_json(folder / "1_Pooling/config.json", pooling)
    with pytest.raises(ModelLoadError, match="not supported"):
        load(folder)


def test_normalization_comes_from_the_modules(folder: Path) -> None:
    """A Normalize module makes unit vectors; without one they stay as they are."""
    module = {"idx": 2, "type": "sentence_transformers.models.Normalize"}
    raw = load(folder)
    write_json(folder / "modules.json", [{"type": "sentence_transformers.models.Pooling"}, module])
    unit = load(folder)
    length = np.linalg.norm(raw.embed_passages(["red"]))
    assert length != pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(unit.embed_passages(["red"]), raw.embed_passages(["red"]) / length, atol=1e-6)
    assert not unit.fingerprint.matches(raw.fingerprint)


def test_prefixes_come_from_the_prompts(folder: Path) -> None:
    """sentence-transformers' prompts are the default prefixes."""
    prompts = {"query": "query: ", "document": "passage: ", "odd": 3}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    model = load(folder, pooling="last", max_tokens=2)
    assert (model.query_prefix, model.passage_prefix) == ("query: ", "passage: ")
    np.testing.assert_allclose(model.embed_queries(["red"])[0], ROW["query:"])
    np.testing.assert_allclose(model.embed_passages(["red"])[0], ROW["passage:"])
    assert load(folder, query_prefix="").query_prefix == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 3}),
        ("tokenizer_config.json", {"model_max_length": 3}),
    ],
)
def test_long_texts_are_cut(folder: Path, name: str, content: dict[str, Any]) -> None:
    """A text is cut at the model's length, special tokens counted."""
    write_json(folder / name, content)
    model = load(folder)
    np.testing.assert_array_equal(
        model.embed_passages(["red green blue blue blue"]), model.embed_passages(["red green"])
    )


def test_a_limit_that_is_none_is_ignored(folder: Path) -> None:
    """Tokenizers without a limit write 1e30; texts are then cut at 512 tokens."""
    write_json(folder / "tokenizer_config.json", {"model_max_length": int(1e30)})
    model = load(folder, pooling="last")
    np.testing.assert_allclose(model.embed_passages(["blue " * 511 + "red"])[0], ROW["blue"])
    np.testing.assert_allclose(model.embed_passages(["blue " * 510 + "red"])[0], ROW["red"])


def test_vecdb_toml_stands_in_for_the_json_files(folder: Path) -> None:
    """vecdb.toml overrules the folder's JSON, and the node's configuration overrules it."""
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "mean"})
    (folder / "vecdb.toml").write_text(
        'pooling = "last"\nnormalize = true\nmax_tokens = 3\nmetric = "dot"\nquery_prefix = "query: "\n'
    )
    model = load(folder, normalize=False)
    assert (model.metric, model.query_prefix, model.passage_prefix) == ("dot", "query: ", "")
    np.testing.assert_allclose(model.embed_passages(["red green blue"])[0], ROW["green"], atol=1e-6)
    assert load(folder, metric="l2").metric == "l2"
    assert load(folder, query_prefix="other: ").query_prefix == "other: "


@pytest.mark.parametrize(
    ("content", "complaint"),
    [('pooling = "max"', "pooling"), ("pooling = ", "vecdb.toml"), ("polling = 1", "polling")],
)
def test_a_wrong_vecdb_toml_is_refused(folder: Path, content: str, complaint: str) -> None:
    """Unknown keys, wrong values and broken TOML are named."""
    (folder / "vecdb.toml").write_text(content)
    with pytest.raises(ModelLoadError, match=complaint):
        load(folder)


def test_batches_do_not_change_vectors(folder: Path) -> None:
    """Many texts of mixed lengths come back in their order, whatever runs they went in."""
    model = load(folder, batch_size=3)
    texts = [" ".join(WORDS[2 + (i + j) % 3] for j in range(1 + 7 * i % 11)) for i in range(20)]
    one_by_one = np.vstack([model.embed_passages([text]) for text in texts])
    np.testing.assert_allclose(model.embed_passages(texts), one_by_one, atol=1e-6)


def test_a_run_is_bounded_in_tokens(folder: Path) -> None:
    """Long texts go in runs of at most 16,384 padded tokens, and none is lost at a border."""
    sizes: list[int] = []

    class Watched(OnnxEmbedder):
        def _run(self, encoded: list[Any]) -> np.ndarray:
            sizes.append(len(encoded) * len(encoded[-1].ids))
            return super()._run(encoded)

    model = Watched(
        OnnxConfig(kind="onnx", name="tiny", path=folder, threads=1, max_tokens=8192, pooling="last")
    )
    texts = ["blue " * 7000 + "red", "blue " * 7000 + "green", "red " * 7000 + "blue"]
    np.testing.assert_allclose(model.embed_passages(texts), [ROW["red"], ROW["green"], ROW["blue"]])
    assert max(sizes) <= 16_384 < 3 * 7000


def test_texts_of_unknown_words_alone_are_named(tmp_path: Path) -> None:
    """Where the tokenizer knows none of the words there is no vector, and the others are no excuse."""
    model = load(write_model(tmp_path, TABLE, letter_tokenizer("abcdero")))
    with pytest.raises(EmbeddingError, match="no word that the model knows") as some:
        model.embed_passages(["red", "xyzzy", "blue"])
    assert some.value.positions == (1,)
    with pytest.raises(EmbeddingError) as every:
        model.embed_passages(["xyzzy", "XYZ"])
    assert every.value.positions == (0, 1)
    with pytest.raises(EmbeddingError, match="is empty"):
        model.embed_queries(["red", " "])


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    """A model that computes NaN for a text refuses it by position."""
    table = TABLE.copy()
    table[WORDS.index("blue")] = np.nan
    model = load(write_model(tmp_path, table, word_tokenizer(WORDS, cls="[CLS]", unknown="[UNK]")))
    with pytest.raises(EmbeddingError, match="position 1 has an embedding that is not finite"):
        model.embed_passages(["red", "blue"])


def test_a_graph_that_pools_by_itself_is_believed(tmp_path: Path) -> None:
    """`sentence_embedding` is taken as it is (here: the maximum over the tokens)."""
    tokenizer = word_tokenizer(WORDS, cls="[CLS]", unknown="[UNK]")
    model = load(write_model(tmp_path, TABLE, tokenizer, pooled_output="sentence_embedding"))
    expected = np.maximum(ROW["[CLS]"], ROW["red"])
    np.testing.assert_allclose(model.embed_passages(["red"])[0], expected)


def test_further_inputs_are_fed(tmp_path: Path) -> None:
    """Token types and positions are given to graphs that ask, in the type they ask for."""
    tokenizer = word_tokenizer(WORDS, unknown="[UNK]")
    extra = {"token_type_ids": INT64, "position_ids": INT32}
    model = load(write_model(tmp_path, TABLE, tokenizer, at="onnx/model.onnx", inputs=extra))
    np.testing.assert_allclose(model.embed_passages(["red"])[0], ROW["red"])


@pytest.mark.parametrize("extra", [{"pixel_values": FLOAT}, {"token_type_ids": FLOAT}])
def test_other_inputs_are_refused(tmp_path: Path, extra: dict[str, int]) -> None:
    """A graph that wants something else is no text model; its input is named."""
    folder = write_model(tmp_path, TABLE, word_tokenizer(WORDS, unknown="[UNK]"), inputs=extra)
    with pytest.raises(ModelLoadError, match=next(iter(extra))):
        load(folder)


def test_a_tokenizer_of_another_model_is_reported(tmp_path: Path) -> None:
    """Token ids beyond the table fail the run, not the process."""
    folder = write_model(tmp_path, TABLE[:3], word_tokenizer(WORDS, unknown="[UNK]"))
    model = load(folder)
    with pytest.raises(EmbeddingError, match="'tiny' fails"):
        model.embed_passages(["blue"])


def test_a_tokenizer_without_an_unknown_token_is_reported(tmp_path: Path) -> None:
    """A tokenizer that fails on the probe texts is refused when the model is loaded."""
    with pytest.raises(ModelLoadError, match=r"cannot embed the probe texts: the tokenizer of 'tiny' fails"):
        load(write_model(tmp_path, TABLE, word_tokenizer(WORDS)))


def test_an_output_of_another_shape_is_reported(tmp_path: Path) -> None:
    """An output that is neither token vectors nor text vectors is not guessed at."""
    folder = write_model(tmp_path, TABLE.reshape(-1, 3, 2), word_tokenizer(WORDS, unknown="[UNK]"))
    with pytest.raises(ModelLoadError, match="returns shape"):
        load(folder)


def test_identity_covers_weights_tokenizer_and_settings(tmp_path: Path) -> None:
    """A copy elsewhere is the same model; other weights, tokenizer or pooling are not."""

    def make(name: str, table: np.ndarray = TABLE, words: list[str] = WORDS, **options: Any) -> OnnxEmbedder:
        tokenizer = word_tokenizer(words, cls="[CLS]", unknown="[UNK]")
        return load(write_model(tmp_path / name, table, tokenizer), **options)

    base = make("a").fingerprint
    assert base.matches(make("b").fingerprint)
    assert not base.matches(make("c", table=TABLE * 2).fingerprint)
    assert not base.matches(make("d", words=[*WORDS[:-1], "other"]).fingerprint)
    assert not base.matches(make("e", pooling="cls").fingerprint)
    assert not base.matches(make("f", max_tokens=500).fingerprint)
    (tmp_path / "b" / "model.onnx_data").write_bytes(b"weights kept beside the graph")
    assert not base.matches(load(tmp_path / "b").fingerprint)


def test_what_is_missing_or_broken_is_named(folder: Path, tmp_path: Path) -> None:
    """Every way in which a folder can be wrong ends in a ModelLoadError that says which."""
    with pytest.raises(ModelLoadError, match="6 dimensions, 7 are configured"):
        load(folder, dim=7)
    with pytest.raises(ModelLoadError, match=r"has no other\.onnx"):
        load(folder, file="other.onnx")
    with pytest.raises(ModelLoadError, match=r"has no model\.onnx or onnx/model\.onnx"):
        load(tmp_path / "nowhere")
    (folder / "modules.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"modules\.json"):
        load(folder)
    (folder / "modules.json").unlink()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"has no tokenizer\.json"):
        load(folder)


def test_weights_that_cannot_be_read_are_named(folder: Path) -> None:
    """A file beside the graph that belongs to it and cannot be hashed stops the load."""
    (folder / "model.onnx_data").symlink_to(folder / "nowhere")
    with pytest.raises(ModelLoadError, match=r"model\.onnx_data"):
        load(folder)


def test_a_damaged_graph_is_a_load_error(folder: Path) -> None:
    """Truncated model files are refused by name."""
    (folder / "model.onnx").write_bytes(lookup_model(TABLE)[:40])
    with pytest.raises(ModelLoadError, match=r"model\.onnx"):
        load(folder)


def test_no_texts_give_no_vectors(folder: Path) -> None:
    """An empty batch is a (0, dim) matrix."""
    assert load(folder).embed_queries([]).shape == (0, 6)
