"""Golden values for resizing: Pillow 9.4.0, random.Random(11), no other dependency.

    python3 tests/golden/io_resize.py > tests/golden/io_resize.json

Images of bytes are mostly black and white, so that filters with negative lobes overshoot and every pass clips;
images of numbers are in [-1, 2]. All data are base64: bytes, or little-endian float32 for mode F.
"""
import base64
import json
import random
import struct

import PIL
from PIL import Image

rng = random.Random(11)
SIZES = [  # width, height before and after
    ((7, 5), (13, 9)),
    ((13, 9), (7, 5)),
    ((1, 1), (5, 4)),
    ((5, 4), (1, 1)),
    ((1, 6), (9, 4)),
    ((7, 100), (100, 7)),
    ((100, 7), (7, 100)),
    ((64, 48), (10, 10)),
    ((8, 8), (4, 4)),  # sums of exactly half a grey level
    ((8, 8), (8, 3)),
    ((8, 8), (3, 8)),
    ((6, 6), (6, 6)),
]
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


def level():
    return rng.choice([0, 0, 255, 255, rng.randrange(256)])


def pixels(mode, width, height):
    if mode == "F":
        return struct.pack(f"<{width * height}f", *(rng.uniform(-1, 2) for _ in range(width * height)))
    return bytes(level() for _ in range(width * height * (3 if mode == "RGB" else 1)))


def text(data):
    return base64.b64encode(data).decode()


cases = []
for before, after in SIZES:
    for mode in ("RGB", "L", "F"):
        data = pixels(mode, *before)
        image = Image.frombytes(mode, before, data)
        out = {name: text(image.resize(after, number).tobytes()) for name, number in FILTERS.items()}
        cases.append({"mode": mode, "before": before, "after": after, "in": text(data), "out": out})
print(json.dumps({"pillow": PIL.__version__, "cases": cases}))
