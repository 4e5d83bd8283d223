"""Writes safetensors.safetensors with Python's struct alone, from the format's description.

Every storage type, unaligned data (sizes 3, 2, 2, ... before wider ones), metadata in UTF-8.
Run: python3 tests/golden/safetensors.py   (Python 3.11; no random numbers)
"""

import json
import math
import pathlib
import struct

TENSORS = [
    ("flag", "BOOL", [3], struct.pack("<3?", True, False, True)),
    ("byte", "U8", [2], struct.pack("<2B", 0, 255)),
    ("signed", "I8", [2], struct.pack("<2b", -128, 127)),
    ("half", "F16", [3], struct.pack("<3e", 0.5, -65504.0, 2.0**-24)),
    ("brain", "BF16", [2], b"".join(struct.pack("<f", v)[2:] for v in (1.5, -3.140625))),
    ("single", "F32", [2, 2], struct.pack("<4f", 1, 0.1, -2, 3e38)),
    ("double", "F64", [1], struct.pack("<d", math.pi)),
    ("short", "I16", [2], struct.pack("<2h", -32768, 32767)),
    ("whole", "I32", [1, 2], struct.pack("<2i", -(2**31), 2**31 - 1)),
    ("long", "I64", [2], struct.pack("<2q", -5, 2**31 - 1)),
    ("empty", "F32", [0, 4], b""),
    ("scalar", "F32", [], struct.pack("<f", 42)),
]

header = {"__metadata__": {"format": "by hand", "note": "naïve ✓"}}
data = b""
for name, dtype, shape, raw in TENSORS:
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
text = json.dumps(header, ensure_ascii=False).encode()
path = pathlib.Path(__file__).with_suffix(".safetensors")
path.write_bytes(struct.pack("<Q", len(text)) + text + data)
