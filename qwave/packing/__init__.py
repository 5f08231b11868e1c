"""Packed models: bits, files, and the exact size of a configuration. No torch."""

from qwave.packing.bits import pack, packed_length, unpack
from qwave.packing.file import (
    from_bytes,
    from_file,
    make_header,
    packed_size_bytes,
    packed_size_parts,
    to_bytes,
)
from qwave.packing.header import FORMAT_VERSION
from qwave.packing.model import (
    Header,
    LayerShape,
    PackedLayer,
    PackedModel,
    layer_shapes,
    mc_masks,
)

__all__ = [
    "FORMAT_VERSION",
    "Header",
    "LayerShape",
    "PackedLayer",
    "PackedModel",
    "from_bytes",
    "from_file",
    "layer_shapes",
    "make_header",
    "mc_masks",
    "pack",
    "packed_length",
    "packed_size_bytes",
    "packed_size_parts",
    "to_bytes",
    "unpack",
]
