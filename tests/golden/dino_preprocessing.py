"""Golden values for the preparation of images of DINO and DINOv2: Pillow 9.4.0, no random numbers.

    python3 tests/golden/dino_preprocessing.py > tests/golden/dino_preprocessing.json

torchvision's Resize(256, bicubic), CenterCrop(224), ToTensor and Normalize written out with Pillow alone: the longer
side is int(256 * long / short), the crop begins at int(round((size - 224) / 2)), and Python rounds halves to even.
Value i of each image is (7919 i + (i^2 mod 1009)) mod 256; every 101st value of the result is kept, as base64 of
little-endian float32.
"""
import base64
import json
import struct

import PIL
from PIL import Image

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
STEP = 101


def prepare(image, short, crop):
    width, height = image.size
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    left, top = (int(round((side - crop) / 2.0)) for side in size)
    pixels = resized.crop((left, top, left + crop, top + crop)).tobytes()
    return [(level / 255 - MEAN[i % 3]) / STD[i % 3] for i, level in enumerate(pixels)]


cases = []
for width, height in [(61, 40), (33, 90), (300, 260), (256, 256), (48, 35)]:
    data = bytes((i * 7919 + i * i % 1009) % 256 for i in range(width * height * 3))
    kept = prepare(Image.frombytes("RGB", (width, height), data), 256, 224)[::STEP]
    cases.append({
        "width": width,
        "height": height,
        "out": base64.b64encode(struct.pack(f"<{len(kept)}f", *kept)).decode(),
    })
print(json.dumps({"pillow": PIL.__version__, "step": STEP, "cases": cases}))
