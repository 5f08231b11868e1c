"""The description at the head of a packed file, as text and back.

Every value is a string, as safetensors' metadata are. The smallest useful model has 1640 bytes of
parameters, so that what stands around them counts: lists are comma-separated (class names by the
rules of CSV), and keys that follow from others are left out.

| key | value | where |
|---|---|---|
| `qwave` | format version | always |
| `classes` | names | always |
| `features` | d, and the encoder that makes them: ``1280,mel-statistics@1a2b3c4d`` | always |
| `normalization` | name | where it is not `sqrt_layer` |
| `schemes` | one an expert | always |
| `hidden` | widths | with hidden layers |
| `head` | scheme | where it is not the expert's own |
| `router` | hidden width, scheme | mixtures |
| `top_k`, `alpha` | numbers | mixtures |
| `mc` | MC-dropout: samples, seed, and rates of inputs and hidden units | always |
| `sure` | probability from which on a prediction counts as sure, in units of 2^-16 | always |
| `digests` | of the data and of the configuration | always |

The encoder is left out where it is not known. `sure` is not, being fitted after training, when the
size of the file must be known: it is ``0000`` where it was not fitted.

Files of version 1 are read as well. They have `normalization` always, the digests as `data` and
`config`, and neither an encoder nor `sure`.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping

from qwave.config import (
    ConfigError,
    CuriosityConfig,
    ModelConfig,
    PackedFileError,
    RouterConfig,
    TrialConfig,
)
from qwave.packing.model import MAX_LAYERS, Header

FORMAT_VERSION = 2  # what is written
_READ_VERSIONS = ("1", "2")
_MAX_COUNT = 2**31
# The format's own: another default of `data.normalization` must not change what files mean.
_IMPLIED_NORMALIZATION = "sqrt_layer"


def rounded_rate(rate: float) -> float:
    """A dropout rate as a file holds it."""
    return _rate(_rate_text(rate))


def header_to_text(header: Header, version: int = FORMAT_VERSION) -> dict[str, str]:
    """Keys and values in the order in which they are written.

    Args:
        header: The header of a model; version 1 leaves out what it has no key for.
        version: Version of the format; an earlier one serves to compare with a file that was read.
    """
    model, router = header.model, header.model.router
    is_first = version == 1
    text = {
        "qwave": str(version),
        "classes": _row(header.class_names),
        "features": str(header.in_features),
    }
    if header.encoder and not is_first:
        text["features"] += f",{header.encoder}"
    if is_first or header.normalization != _IMPLIED_NORMALIZATION:
        text["normalization"] = header.normalization
    text["schemes"] = _row(model.schemes)
    if model.hidden:
        text["hidden"] = _row(model.hidden)
    if model.head_scheme is not None:
        text["head"] = model.head_scheme
    rates = [model.input_dropout, model.dropout][: 1 + bool(model.hidden)]
    if model.num_experts > 1:
        text["router"] = _row((router.hidden, router.scheme))
        text["top_k"] = str(model.top_k)
        text["alpha"] = repr(float(model.curiosity.alpha))
        rates = [router.dropout]
    numbers = (model.curiosity.mc_samples, f"{header.mc_seed:08x}", *map(_rate_text, rates))
    text["mc"] = _row(numbers)
    if is_first:
        return {**text, "data": header.data_digest, "config": header.config_digest}
    text["sure"] = _rate_text(header.sure_probability)
    text["digests"] = _row((header.data_digest, header.config_digest))
    return text


def header_from_text(text: Mapping[str, str]) -> Header:
    """The header that `header_to_text` wrote as these keys and values.

    Raises:
        PackedFileError: A key is missing or unknown, or a value is not what `header_to_text` would
            have written.
    """
    version = text.get("qwave")
    if version not in _READ_VERSIONS:
        raise PackedFileError(
            f"format version {version!r}; this qwave reads versions {' and '.join(_READ_VERSIONS)}"
        )
    try:
        header = _parse(text)
    except KeyError as error:
        raise PackedFileError(f"the header has no {error}") from error
    except ConfigError as error:
        raise PackedFileError(f"impossible model: {error}") from error
    _require_canonical(header.model)
    written = header_to_text(header, int(text["qwave"]))
    if written != dict(text):
        key = next(k for k in [*text, *written] if text.get(k) != written.get(k))
        raise PackedFileError(
            f"{key}={text.get(key)!r:.200} in the header, which would be {written.get(key)!r:.200}"
        )
    return header


def _parse(text: Mapping[str, str]) -> Header:
    schemes = tuple(_listed(text["schemes"], "schemes"))
    widths = _listed(text["hidden"], "hidden") if "hidden" in text else []
    hidden = tuple(_whole(w, f"hidden[{layer}]", 1) for layer, w in enumerate(widths))
    mc = re.fullmatch(r"([^,]*),([0-9a-f]{8}),([0-9a-f]{4})(?:,([0-9a-f]{4}))?", text["mc"])
    if mc is None:
        raise PackedFileError(
            "mc must be samples, a seed of eight hexadecimal digits, and one or two rates of "
            f"four, not {text['mc'][:50]!r}"
        )
    samples, seed, first_rate, second_rate = mc.groups(default="0000")
    is_mixture = len(schemes) > 1
    router = RouterConfig()
    top_k, alpha, input_dropout, dropout = 1, 0.0, 0.0, 0.0
    if is_mixture:
        width, _, scheme = text["router"].partition(",")
        router = RouterConfig(_whole(width, "router", 0), scheme, _rate(first_rate))
        top_k, alpha = _whole(text["top_k"], "top_k", 1), _number(text["alpha"], "alpha")
    else:
        input_dropout, dropout = _rate(first_rate), _rate(second_rate)
    model = ModelConfig(
        schemes=schemes,
        hidden=hidden,
        head_scheme=text.get("head"),
        top_k=top_k,
        dropout=dropout,
        input_dropout=input_dropout,
        router=router,
        curiosity=CuriosityConfig(alpha, _whole(samples, "mc samples", 2)),
    )
    in_features, _, encoder = text["features"].partition(",")
    is_first = text["qwave"] == "1"
    if is_first:
        normalization, data_digest, config_digest = (
            text[key] for key in ("normalization", "data", "config")
        )
    else:
        normalization = text.get("normalization", _IMPLIED_NORMALIZATION)
        data_digest, _, config_digest = text["digests"].partition(",")
    return Header(
        model,
        normalization,
        _whole(in_features, "features", 1),
        _names(text["classes"]),
        int(seed, 16),
        data_digest,
        config_digest,
        encoder,
        0.0 if is_first else _sure(text["sure"]),
    )


def _require_canonical(model: ModelConfig) -> None:
    """Refuse a second form of the same model: experts in another order, keys without effect."""
    canonical = TrialConfig(model=model).canonical().model
    if model == canonical:
        return
    found, wanted = TrialConfig(model=model).flat(), TrialConfig(model=canonical).flat()
    key = next(key for key in found if found[key] != wanted[key])
    raise PackedFileError(f"{key}={found[key]!r:.200}, which would be {wanted[key]!r:.200}")


def _row(values: Iterable[object]) -> str:
    """Values as one row of CSV."""
    file = io.StringIO()
    csv.writer(file).writerow(values)
    return file.getvalue().removesuffix("\r\n")  # the end of a row, which makes it quote both


def _names(row: str) -> tuple[str, ...]:
    try:
        rows = list(csv.reader(io.StringIO(row, newline=""), strict=True))
    except csv.Error as error:
        raise PackedFileError(f"classes must be a row of names, but: {error}") from error
    if len(rows) != 1 or not rows[0]:
        raise PackedFileError(f"classes must be one row of names, but got {row[:100]!r}")
    return tuple(rows[0])


def _listed(text: str, key: str) -> list[str]:
    # Each item is a layer at least. Half a million items would take a second to check.
    n_listed = text.count(",") + 1
    if n_listed > MAX_LAYERS:
        raise PackedFileError(
            f"{key} lists {n_listed}, but a packed model has at most {MAX_LAYERS} layers"
        )
    return text.split(",")


def _whole(text: str, key: str, least: int) -> int:
    # Digits are counted before they are read: int() takes quadratic time for long ones.
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= _MAX_COUNT:
        raise PackedFileError(
            f"{key} must be a whole number from {least} to {_MAX_COUNT}, not {text[:20]!r}"
        )
    return int(text)


def _number(text: str, key: str) -> float:
    try:
        number = float(text[:50])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise PackedFileError(f"{key} must be a number, not {text[:50]!r}")
    return number


def _sure(text: str) -> float:
    if not re.fullmatch("[0-9a-f]{4}", text):
        raise PackedFileError(f"sure must be four hexadecimal digits, not {text[:20]!r}")
    return _rate(text)


def _rate_text(rate: float) -> str:
    """A dropout rate, or another share below 1, as four hexadecimal digits, in units of 2^-16.

    That is how finely training draws (`qwave.nn.dropout.DropMask`), and unlike a decimal fraction
    it has one length: the size of a file must not depend on the digits of a rate.
    """
    return f"{min(round(rate * 2**16), 2**16 - 1):04x}"


def _rate(text: str) -> float:
    return int(text, 16) / 2**16
