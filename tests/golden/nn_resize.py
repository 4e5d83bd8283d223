"""Golden values for resizing tensors: PyTorch 2.13 CPU, torch.manual_seed(13).

    python3 tests/golden/nn_resize.py > tests/golden/nn_resize.json

`interpolate(antialias=True)` is what torchvision's `Resize` does with tensors. `dinov3` is what Hugging Face's
DINOv3ViTImageProcessorFast makes of one image of bytes: rescaled, resized to 224 x 224, normalised; every 101st
value is kept. Value i of that image is (7919 i + (i^2 mod 1009)) mod 256. All data are base64 of little-endian
float32, channels last. `out64` is the same in double precision: PyTorch computes the weights of float32 images in
float32, whose places are some 1e-5 of a pixel wrong at 300 pixels.
"""
import base64
import json
import struct

import torch
from torch.nn.functional import interpolate

torch.manual_seed(13)
SIZES = [((5, 7), (9, 13)), ((9, 13), (5, 7)), ((1, 1), (4, 5)), ((100, 7), (7, 100)), ((7, 100), (100, 7)), ((24, 32), (11, 10))]


def text(tensor_bchw):
    values = tensor_bchw.permute(0, 2, 3, 1).flatten().tolist()
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


cases = []
for before, after in SIZES:
    image = torch.rand(2 if before[0] < 10 and before[1] < 20 else 1, 3, *before)
    out = {mode: text(interpolate(image, after, mode=mode, antialias=True)) for mode in ("bilinear", "bicubic")}
    cases.append({"before": before, "after": after, "in": text(image), "out": out})

levels = torch.tensor([(i * 7919 + i * i % 1009) % 256 for i in range(61 * 300 * 3)]).view(1, 61, 300, 3).permute(0, 3, 1, 2)
mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def prepared(unit):
    resized = interpolate(unit, (224, 224), mode="bilinear", antialias=True)
    kept = ((resized - mean) / std).permute(0, 2, 3, 1).flatten()[::101].tolist()
    return base64.b64encode(struct.pack(f"<{len(kept)}f", *kept)).decode()


dinov3 = {
    "height": 61,
    "width": 300,
    "step": 101,
    "out": prepared(levels * 0.00392156862745098),
    "out64": prepared(levels.double() / 255),
}
print(json.dumps({"torch": torch.__version__, "cases": cases, "dinov3": dinov3}))
