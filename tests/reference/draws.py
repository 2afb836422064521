"""Numbers that depend on a seed and a name alone: the same bytes on every machine and with every version of numpy.

numpy promises the bit streams of its generators for ever, but not those of its distributions, so the draws are taken
from the bits: sixteen of them a number, uniform, every value exact in float32.
"""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

DEVIATION = 1 / math.sqrt(3)


def uniform(seed: int, name: str, count: int) -> NDArray[np.float32]:
    """`count` float32 numbers within (-1, 1), of mean 0 and standard deviation DEVIATION."""
    bits = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw(-(-count // 4)).view("<u2")[:count]
    numbers = bits.astype(np.float32)
    numbers -= np.float32(32767.5)
    numbers *= np.float32(1 / 32768)
    return numbers
