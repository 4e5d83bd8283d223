"""Golden values of Pillow's Gaussian blur, solarisation and bicubic crops: Pillow 9.4.0, random.Random(12).

    python3 tests/golden/data_pillow.py > tests/golden/data_pillow.json

Pillow rounds to bytes after each of the six passes of its blur. `blurs` therefore are the same boxes as plain sums in
double precision; rounded after each pass they are Pillow's bytes, but for at most 9 of 462 by one level, which the script asserts.
"""
import json
import math
import random
import struct

import PIL
from PIL import Image, ImageFilter, ImageOps

rng = random.Random(12)
WIDTH, HEIGHT = 14, 11
pixels = bytes(rng.randrange(256) for _ in range(WIDTH * HEIGHT * 3))
image = Image.frombytes("RGB", (WIDTH, HEIGHT), pixels)


def single(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def boxed(values, width, radius, as_bytes):
    """One pass along rows: whole pixels of weight 1 / (2 r + 1) and two ends with the rest, as bytes in 24 bits."""
    whole, one = int(radius), 1 << 24
    inner = int(single(one / single(2 * single(radius) + 1))) if as_bytes else one / (2 * radius + 1)
    outer = (one - (2 * whole + 1) * inner) // 2 if as_bytes else (one - (2 * whole + 1) * inner) / 2
    out = []
    for start in range(0, len(values), width):
        at = lambda x: values[start + min(max(x, 0), width - 1)]
        for x in range(width):
            total = inner * sum(at(x + k) for k in range(-whole, whole + 1)) + outer * (at(x - whole - 1) + at(x + whole + 1))
            out.append((total + one // 2) >> 24 if as_bytes else total / one)
    return out


def blur(channel, sigma, as_bytes):
    variance = sigma * sigma / 3
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    radius = whole + (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    turn = lambda values, width: [values[x + y * width] for x in range(width) for y in range(len(values) // width)]
    for width, height in ((WIDTH, HEIGHT), (HEIGHT, WIDTH)):
        for _ in range(3):
            channel = boxed(channel, width, radius, as_bytes)
        channel = turn(channel, width)
    return channel


blurs = []
for sigma in (0.1, 0.3, 0.75, 1.0, 1.4, 2.0):
    channels = [list(pixels[c::3]) for c in range(3)]
    exact = [blur(c, sigma, False) for c in channels]
    rounded = [blur(c, sigma, True) for c in channels]
    pillow = image.filter(ImageFilter.GaussianBlur(sigma)).tobytes()
    gaps = [abs(a - b) for c in range(3) for a, b in zip(rounded[c], pillow[c::3])]
    assert max(gaps) <= 1 and sum(gaps) <= 9, (sigma, sum(gaps))  # the radius is in single precision
    blurs.append(dict(sigma=sigma, data=[float(f"{exact[i % 3][i // 3] / 255:.8g}") for i in range(3 * WIDTH * HEIGHT)]))
crops = []
for left, top, width, height, size in [(0, 0, 14, 11, 8), (3, 2, 6, 5, 16), (1, 0, 9, 10, 9)]:
    crop = image.crop((left, top, left + width, top + height)).resize((size, size), Image.BICUBIC)
    crops.append(dict(box=dict(left=left, top=top, width=width, height=height), size=size, data=list(crop.tobytes())))
print(json.dumps(dict(pillow=PIL.__version__, shape=[1, HEIGHT, WIDTH, 3], pixels=list(pixels), blurs=blurs,
                      solarized=list(ImageOps.solarize(image).tobytes()), crops=crops)))
