"""Writes deflated.npz, as numpy.savez_compressed lays it out, with Python's zipfile alone.

One array x: float32 zeros of shape (64,), then x[3] = 1.
Run: python3 tests/golden/deflated.py   (Python 3.11; no random numbers)
"""

import pathlib
import struct
import zipfile

header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }".ljust(117) + b"\n"
values = [0.0] * 64
values[3] = 1.0
array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack("<64f", *values)
entry = zipfile.ZipInfo("x.npy")
entry.compress_type = zipfile.ZIP_DEFLATED
with zipfile.ZipFile(pathlib.Path(__file__).with_suffix(".npz"), "w") as archive:
    archive.writestr(entry, array)
