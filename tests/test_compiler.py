"""Compiled libraries: made once a machine, kept, and done without where it cannot be made."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from qwave import caching, compiler
from qwave.compiler import compiled
from qwave.config import ConfigError, DataConfig, ModelConfig, TrainConfig, TrialConfig
from qwave.data import EmbeddingSet, make_folds
from qwave.engine import precision as precision_module
from qwave.engine import train_folds
from qwave.engine.build import build_mixture
from qwave.engine.compiled import training_library
from qwave.engine.precision import resolve_precision
from qwave.runtime.compiled import forward_library

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and nothing remembered from before."""
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_clear()
    yield tmp_path / "qwave"
    compiled.cache_clear()


@pytest.fixture
def small_source(tmp_path: Path) -> Path:
    """A source that compiles in no time."""
    source = tmp_path / "native" / "small.c"
    source.parent.mkdir()
    source.write_text("int answer(void) { return 42; }\n")
    return source


def _answer(found: ctypes.CDLL | None) -> int:
    assert found is not None
    answer: int = found.answer()
    return answer


@pytest.mark.slow
@needs_compiler
def test_the_sources_compile_without_a_warning(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flags = *compiler._FLAGS, "-Wall", "-Wextra", "-Werror"
    monkeypatch.setattr(compiler, "_FLAGS", flags)
    training, forward = training_library(), forward_library()
    assert training is not None, caplog.text
    assert hasattr(training, "qwave_train")
    assert hasattr(training, "qwave_predict")
    assert forward is not None, caplog.text
    assert hasattr(forward, "qwave_forward")


@needs_compiler
def test_the_library_is_kept_in_the_cache_folder(cache: Path, small_source: Path) -> None:
    assert _answer(compiled(small_source)) == 42
    (made,) = cache.iterdir()
    assert made.name.startswith("small-")
    assert made.suffix == ".so"
    before = made.stat().st_mtime_ns
    compiled.cache_clear()
    assert _answer(compiled(small_source)) == 42
    assert made.stat().st_mtime_ns == before, "not compiled twice"
    assert list(cache.iterdir()) == [made]


@needs_compiler
@pytest.mark.parametrize("changed", ["source", "header", "flags", "processor"])
def test_another_source_flag_or_processor_is_another_library(
    cache: Path, small_source: Path, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _answer(compiled(small_source)) == 42
    flags: tuple[str, ...] = ()
    if changed == "source":
        small_source.write_text("int answer(void) { return 43; }\n")
    elif changed == "header":
        small_source.with_name("other.h").write_text("/* nothing */")
    elif changed == "flags":
        flags = ("-g",)
    else:
        monkeypatch.setattr(compiler, "_processor", lambda: b"another")
    compiled.cache_clear()
    assert _answer(compiled(small_source, flags)) == (43 if changed == "source" else 42)
    assert len(list(cache.iterdir())) == 2


@needs_compiler
def test_where_the_cache_folder_cannot_be_made_the_library_is_made_anew(
    cache: Path, small_source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A file where the folder should be: nothing can be kept there, not even by root.
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    caching._own_folder.cache_clear()  # another test of this process may have made one
    assert _answer(compiled(small_source)) == 42
    assert len(list(tmp_path.glob("qwave-*/small-*.so"))) == 1
    caching._own_folder.cache_clear()


@needs_compiler
def test_two_that_compile_at_once_leave_one_whole_library(cache: Path, small_source: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        # Past the memory of calls, like processes of their own.
        found = list(pool.map(lambda _: compiled.__wrapped__(small_source), range(4)))
    assert [_answer(one) for one in found] == [42] * 4
    assert len(list(cache.iterdir())) == 1


def test_a_compiler_that_fails_is_no_compiler_and_is_said(
    cache: Path,
    small_source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("CC", "false")
    assert compiled(small_source) is None
    assert "could not compile small.c; goes on without it, several times slower" in caplog.text
    assert list(cache.iterdir()) == [], "nothing half made is left"


@needs_compiler
def test_a_library_that_cannot_be_loaded_is_said_and_done_without(
    cache: Path, small_source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A symbol that is nowhere: as in a folder that runs nothing, the linker's loader refuses."""
    small_source.write_text("int nowhere(void);\nint answer(void) { return nowhere(); }\n")
    assert compiled(small_source, ("-Wl,-z,now",)) is None
    assert "cannot be loaded, goes on without it, slower" in caplog.text
    assert "nowhere" in caplog.text


@needs_compiler
def test_what_a_compiler_complains_of_is_said(
    cache: Path, small_source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small_source.write_text("int answer(void) { return forty_two; }\n")
    assert compiled(small_source) is None
    assert "forty_two" in caplog.text


@pytest.mark.slow
def test_without_a_compiler_training_is_stacked_or_refused(
    cache: Path, gaussians: Callable[..., EmbeddingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    data = gaussians(0)
    config = TrialConfig(
        data=DataConfig(n_folds=3),
        model=ModelConfig(("int1", "int4"), (8,)),
        train=TrainConfig(epochs=2, batch_size=16),
    ).canonical()
    folds = make_folds(data, config.data)
    with pytest.raises(ConfigError, match="compiled training needs a C compiler"):
        train_folds(config, data, folds, backend="compiled")
    auto, stacked = (
        train_folds(config, data, folds, backend=backend).mixture.state_dict()
        for backend in ("auto", "stacked")
    )
    assert all(torch.equal(auto[name], stacked[name]) for name in auto)


class _Library:
    """Of a processor that multiplies bfloat16, or not."""

    def __init__(self, has_bfloat16: int) -> None:
        self.has_bfloat16 = has_bfloat16

    def qwave_has_bfloat16(self) -> int:
        return self.has_bfloat16


@pytest.mark.parametrize(
    ("has_bfloat16", "n_more", "expected"),
    [(1, 0, "bfloat16"), (1, 1, "float32"), (0, 0, "float32"), (None, 0, "float32")],
)
def test_moments_are_short_where_training_waits_for_memory(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: int | None, n_more: int, expected: str
) -> None:
    """Counted in one fold: folds train one after another."""
    generators = [torch.Generator() for _ in range(3)]
    mixture = build_mixture(ModelConfig(("int8",), (7,)), 10, 3, generators)
    n_weights = 10 * 7 + 7 + 7 * 3 + 3
    monkeypatch.setattr(precision_module, "_PAYS_FROM", n_weights + n_more)
    found = None if has_bfloat16 is None else _Library(has_bfloat16)
    assert resolve_precision("auto", mixture, found) == expected  # type: ignore[arg-type]
    assert resolve_precision("float32", mixture, found) == "float32"  # type: ignore[arg-type]
