"""Writes dino_families/dinov3.meta.pth: the weights of dinov3.meta.safetensors as a training's checkpoint, and
dinov3.args.pth: the same with the settings of the command line, as DINO's trainer keeps them.

python3 tests/golden/dino_checkpoint.py (PyTorch 2.13.0)
"""
import argparse
import json
import pathlib

import torch

FOLDER = pathlib.Path(__file__).parent / "dino_families"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

content = (FOLDER / "dinov3.meta.safetensors").read_bytes()
length = int.from_bytes(content[:8], "little")
header = json.loads(content[8 : 8 + length])
weights = {}
for name, entry in header.items():
    if name == "__metadata__":
        continue
    begin, end = entry["data_offsets"]
    data = bytearray(content[8 + length + begin : 8 + length + end])
    weights[f"backbone.{name}"] = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]).reshape(entry["shape"])
torch.save({"teacher": weights, "iteration": 3}, FOLDER / "dinov3.meta.pth")
torch.save({"teacher": weights, "args": argparse.Namespace(arch="vit_small")}, FOLDER / "dinov3.args.pth")
