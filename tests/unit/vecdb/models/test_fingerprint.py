"""Fingerprints: the same model is recognized anywhere, another one never."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecdb.models.fingerprint import Fingerprint, digest_of

DIGEST = digest_of("test", {"a": 1})


class Hashing:
    """Embeds by a seeded random projection of the text's bytes."""

    def __init__(self, dim: int = 32, noise: float = 0.0, scale: float = 1.0) -> None:
        self.dim, self.noise, self.scale = dim, noise, scale

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(list(text.encode())).standard_normal(self.dim) for text in texts]
        jitter = np.random.default_rng(7).standard_normal((len(texts), self.dim)) * self.noise
        return ((np.array(rows) + jitter) * self.scale).astype(np.float32)

    embed_passages = embed_queries


def test_a_fingerprint_survives_its_text_form() -> None:
    """parse(str(f)) is f, and the text is short enough for a catalogue entry."""
    taken = Fingerprint.take(DIGEST, Hashing(256))
    assert Fingerprint.parse(str(taken)) == taken
    assert len(str(taken)) < 3000
    assert DIGEST[:12] in repr(taken)


@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3])
def test_the_last_bits_of_floats_do_not_matter(noise: float) -> None:
    """Differences as between processors, far above one rounding step, still match."""
    here, there = Fingerprint.take(DIGEST, Hashing()), Fingerprint.take(DIGEST, Hashing(noise=noise))
    assert here.matches(there)
    assert there.matches(here)
    assert here.explain_mismatch(there) is None


def test_a_uniform_scale_does_not_matter() -> None:
    """Probes are compared by direction: large vectors do not overflow half precision."""
    assert Fingerprint.take(DIGEST, Hashing()).matches(Fingerprint.take(DIGEST, Hashing(scale=1e6)))


def test_the_same_files_that_compute_something_else_do_not_match() -> None:
    """A runtime that computes other vectors from the same weights is found out."""
    right, wrong = Fingerprint.take(DIGEST, Hashing()), Fingerprint.take(DIGEST, Hashing(noise=0.3))
    assert not right.matches(wrong)
    assert "computes other vectors" in str(right.explain_mismatch(wrong))


def test_other_files_do_not_match_even_with_the_same_vectors() -> None:
    """The digest is identity: other settings are another model, and the reason says so."""
    other = Fingerprint.take(digest_of("test", {"a": 2}), Hashing())
    mine = Fingerprint.take(DIGEST, Hashing())
    assert not mine.matches(other)
    assert "the same vectors from other files" in str(mine.explain_mismatch(other))
    far = Fingerprint.take(other.digest, Hashing(noise=0.5))
    assert DIGEST[:12] in str(mine.explain_mismatch(far))
    assert "the same vectors" not in str(mine.explain_mismatch(far))


def test_another_dimension_is_named() -> None:
    """Dimensions are compared before anything else."""
    mine, other = Fingerprint.take(DIGEST, Hashing(32)), Fingerprint.take(DIGEST, Hashing(16))
    assert mine.explain_mismatch(other) == "the model has 16 dimensions, 32 are expected"


def test_an_empty_probe_agrees_with_nothing() -> None:
    """Zero probes, which only a forged text can have, do not match even themselves."""
    forged = Fingerprint(DIGEST, 4, bytes(3 * 4 * 2))
    assert not forged.matches(forged)


def test_the_digest_follows_content_not_place(tmp_path: Path) -> None:
    """Moving a file keeps the digest; a changed byte, label, kind or setting changes it."""
    first, moved, changed = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    first.write_bytes(b"weights")
    moved.write_bytes(b"weights")
    changed.write_bytes(b"weightz")
    base = digest_of("onnx", {"x": 1, "y": 2}, {"model": first})
    assert base == digest_of("onnx", {"y": 2, "x": 1}, {"model": moved})
    others = {
        digest_of("onnx", {"x": 1, "y": 2}, {"model": changed}),
        digest_of("onnx", {"x": 1, "y": 2}, {"tokenizer": first}),
        digest_of("onnx", {"x": 1, "y": 3}, {"model": first}),
        digest_of("other", {"x": 1, "y": 2}, {"model": first}),
        digest_of("onnx", {"x": 1, "y": 2}),
    }
    assert len(others | {base}) == 6


def _text(dim: str = "4", digest: str = DIGEST, probes: bytes = bytes(24), version: str = "v1") -> str:
    return f"{version}:{digest}:{dim}:{base64.b64encode(probes).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        _text(version="v2"),
        _text() + ":",
        _text(digest="0" * 63),
        _text(digest=DIGEST.upper()),
        _text(dim="-4"),
        _text(dim="٤"),
        _text(dim="0", probes=b""),
        _text(dim="5"),
        _text(dim="70000", probes=bytes(420_000)),
        _text(probes=b"\x00\x7c" * 12),
        f"v1:{DIGEST}:4:not base64!",
    ],
)
def test_damaged_texts_are_refused(text: str) -> None:
    """Whatever is not a fingerprint is a ValueError."""
    with pytest.raises(ValueError, match="fingerprint"):
        Fingerprint.parse(text)


@given(st.text(max_size=80))
def test_parsing_never_fails_otherwise(text: str) -> None:
    """Any text is parsed or refused with ValueError."""
    try:
        assert str(Fingerprint.parse(text)) == text
    except ValueError:
        assert not text.startswith(f"v1:{DIGEST}:4:A")
