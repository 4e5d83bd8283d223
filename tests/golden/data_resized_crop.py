"""Golden values for resized crops: PyTorch 2.13 CPU, torch.manual_seed(7).

    python3 tests/golden/data_resized_crop.py > tests/golden/data_resized_crop.json

`interpolate(mode="bilinear", antialias=True)` of the crop is Pillow's triangle filter without rounding.
"""
import json
import torch

torch.manual_seed(7)
image = torch.rand(1, 3, 13, 11)  # B C H W
cases = []
for left, top, width, height, size in [(0, 0, 11, 13, 7), (2, 3, 5, 8, 16), (1, 0, 9, 4, 4), (0, 5, 11, 8, 3), (4, 4, 1, 2, 6)]:
    crop = image[:, :, top : top + height, left : left + width]
    out = torch.nn.functional.interpolate(crop, (size, size), mode="bilinear", antialias=True)
    cases.append({
        "box": {"left": left, "top": top, "width": width, "height": height},
        "size": size,
        "data": [round(v, 7) for v in out[0].permute(1, 2, 0).flatten().tolist()],
    })
pixels = image[0].permute(1, 2, 0).flatten().tolist()
print(json.dumps({"torch": torch.__version__, "shape": [1, 13, 11, 3], "image": pixels, "cases": cases}))
