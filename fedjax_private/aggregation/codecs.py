"""Codecs of encrypted sums: float vectors as they are, or integers on a grid."""

import functools

from fedjax_private.aggregation.plain import IDENTITY
from fedjax_private.aggregation.types import Codec
from fedjax_private.encryption.parameters import SumRequest
from fedjax_private.quantization import Grid, dequantize, quantize, to_unsigned


def grid_of(request: SumRequest) -> Grid:
    """Returns which integers stand for which values, under an exact scheme."""
    return Grid(request.bits, request.sum_bound)


def codec_of(request: SumRequest) -> Codec:
    """Returns the codec: float32 as it is, or if exact rounded to integers mod 2^b."""
    return _integer_codec(grid_of(request)) if request.scheme.exact else IDENTITY


@functools.lru_cache(maxsize=16)
def _integer_codec(grid: Grid) -> Codec:
    # Cached: equal grids give the same codec, so that runs share compiled code.
    return Codec(
        encode=lambda key, vector: to_unsigned(quantize(key, vector, grid), grid.bits),
        decode=lambda total: dequantize(total, grid),
    )
