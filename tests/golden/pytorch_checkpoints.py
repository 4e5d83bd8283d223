"""Writes pytorch_checkpoints/: small checkpoints of many kinds, and expected.json with what torch reads from them.

expected.json: by file, by name of a tensor (keys, attributes and indices joined by dots): [dtype here, shape, values].
Values are exact in float32 or int32, so the comparison is bit for bit; not-a-number and infinities are text.
Run: python3 tests/golden/pytorch_checkpoints.py   (torch 2.13.0, numpy 2.4.6, Python 3.11; seed 0)
"""

import argparse
import collections
import json
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

FOLDER = pathlib.Path(__file__).with_suffix("")
FOLDER.mkdir(exist_ok=True)
torch.manual_seed(0)
expected = {}

# Classes that only the writer knows, as in a trainer's checkpoint.
trainer = types.ModuleType("some_trainer")
sys.modules["some_trainer"] = trainer
for name, bases in [
    ("Schedule", (object,)),
    ("Settings", (object,)),
    ("MyDict", (collections.OrderedDict,)),
    ("MyList", (list,)),
    ("MyParameter", (nn.Parameter,)),
]:
    setattr(trainer, name, type(name, bases, {"__module__": "some_trainer"}))


def host(tensor):
    """What is to be read: floats as float32, integers as int32."""
    if isinstance(tensor, np.ndarray):
        tensor = torch.from_numpy(np.ascontiguousarray(tensor))
    tensor = tensor.detach()
    if tensor.dtype == torch.bool:
        return ["bool", list(tensor.shape), tensor.flatten().int().tolist()]
    if tensor.dtype.is_floating_point:
        values = tensor.flatten().to(torch.float32).tolist()
        return ["float32", list(tensor.shape), [v if np.isfinite(v) else str(v) for v in values]]
    return ["int32", list(tensor.shape), tensor.flatten().tolist()]


def save(name, content, tensors, **options):
    torch.save(content, FOLDER / name, **options)
    expected[name] = {key: host(value) for key, value in tensors.items()}


def numbered(*shape, dtype=torch.float32):
    count = int(np.prod(shape))
    return (torch.arange(count, dtype=torch.float64) / 4 - 1).reshape(shape).to(dtype)


# Plain state dicts, of every protocol.
plain = collections.OrderedDict(
    [("layer.weight", torch.randn(3, 4)), ("layer.bias", torch.randn(3)), ("steps", torch.tensor(7))]
)
for protocol in (2, 3, 4, 5):
    save(f"plain_protocol{protocol}.pth", plain, plain, pickle_protocol=protocol)
save("module_state.pth", module_state := nn.BatchNorm2d(2).state_dict(), module_state)  # has _metadata

# Every type of element.
types_ = {
    "float64": torch.tensor([1 / 3, 1e300, -0.0], dtype=torch.float64),
    "float32": torch.tensor([1 / 3, float("nan"), float("inf"), 1e-45]),
    "float16": torch.tensor([1 / 3, 65504, 6e-8], dtype=torch.float16),
    "bfloat16": torch.tensor([1 / 3, 3e38, 1e-40], dtype=torch.bfloat16),
    "int64": torch.tensor([-(2**31), 2**31 - 1, 5]),
    "int32": torch.tensor([-(2**31), 2**31 - 1], dtype=torch.int32),
    "int16": torch.tensor([-(2**15), 2**15 - 1], dtype=torch.int16),
    "int8": torch.tensor([-128, 127], dtype=torch.int8),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(-2.5),
}
save("types.pth", types_, types_)
save("too_wide.pth", {"count": torch.tensor([1, 2**40])}, {})
save("complex.pth", {"good": torch.ones(1), "phase": torch.ones(2, dtype=torch.complex64)}, {"good": torch.ones(1)})
torch.save({"unsigned": torch.ones(2, dtype=torch.uint16)}, FOLDER / "unsigned.pth")  # the newer form of a tensor

# Views: shared storages, offsets, strides.
base, half = numbered(4, 6), numbered(3, 5, dtype=torch.float16)
views = {
    "base": base,
    "row": base[2],
    "column": base[:, 1],
    "transposed": base.t(),
    "steps": base[1::2, ::3],
    "block": base.reshape(2, 2, 2, 3).permute(3, 0, 2, 1),
    "expanded": base[:, :1].expand(4, 3),
    "diagonal": base.diagonal(),
    "half": half.t()[1:],
    "bytes": torch.arange(12, dtype=torch.uint8).reshape(3, 4).t(),
    "long": torch.arange(12).reshape(3, 4)[:, 1:3],
    "channels_last": numbered(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "no_rows": base[2:2],
}
save("views.pth", views, views)

# Parameters, also of a class of their own.
parameter, own = nn.Parameter(numbered(2, 2)), trainer.MyParameter(numbered(3))
own.note = "an attribute"
save("parameters.pth", {"plain": parameter, "own": own}, {"plain": parameter, "own": own})

# Modules saved whole.
torch.manual_seed(1)
net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Sequential(nn.Linear(3, 1, bias=False)))
net.register_buffer("kept", numbered(2))
net.register_buffer("passing", numbered(2), persistent=False)
save("module.pt", net, net.state_dict())

# A trainer's checkpoint: weights among settings, callbacks, optimiser states and numbers of numpy.
schedule = trainer.Schedule()
schedule.warmup, schedule.owner = 10, schedule
settings = trainer.Settings()
settings.schedule, settings.paths, settings.rate = schedule, [pathlib.PurePosixPath("a/b")], 1e-3
items = trainer.MyDict(first=1)
items["nested.bias"] = numbered(2)
items.extra = 3
optimizer = torch.optim.AdamW([parameter], lr=0.1)
parameter.grad = torch.ones_like(parameter)
optimizer.step()
state = optimizer.state_dict()
lightning = {
    "epoch": 3,
    "global_step": np.int64(2**40 + 1),
    "pytorch-lightning_version": "2.5",
    "state_dict": {"model.weight": numbered(2, 3), "model.bias": numbered(2)},
    "ema": {"weight": numbered(2, 3) * 2},
    "optimizer_states": [state],
    "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": np.float32(0.25), "mode": {"min", "max"}}},
    "hyper_parameters": {
        "settings": settings,
        "arguments": argparse.Namespace(size=[1, 2], big=2**70, negative=-(2**33), raw=b"\x00\xff", none=None),
        "act": nn.GELU,
        "device": torch.device("cuda", 1),
        "dtype": torch.bfloat16,
        "shape": torch.Size([2, 3]),
        "items": items,
        "list": trainer.MyList([numbered(1)]),
        "ratio": complex(1, 2),
        "frozen": frozenset([1]),
        "slice": slice(1, 2),
        "default": collections.defaultdict(list, a=1),
    },
    "statistics": {
        "mean": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
        "counts": np.arange(3),
        "big_endian": np.array([1, 2], dtype=">i2"),
        "flags": np.array([True, False]),
    },
}
named = {
    "state_dict.model.weight": numbered(2, 3),
    "state_dict.model.bias": numbered(2),
    "ema.weight": numbered(2, 3) * 2,
    "hyper_parameters.items.nested.bias": numbered(2),
    "hyper_parameters.list.0": numbered(1),
    **{f"optimizer_states.0.state.0.{k}": v for k, v in state["state"][0].items()},
    **{f"statistics.{k}": v.astype(v.dtype.newbyteorder("=")) for k, v in lightning["statistics"].items()},
}
for protocol in (2, 4, 5):
    save(f"lightning_protocol{protocol}.ckpt", lightning, named, pickle_protocol=protocol)

# Other forms of files.
save("tensor.pt", numbered(2, 2), {"": numbered(2, 2)})

# The format before PyTorch 1.6.
old = {"_use_new_zipfile_serialization": False}
save("legacy.pth", plain, plain, **old)
save("legacy_types.pth", types_, types_, **old)
save("legacy_views.pth", views, views, **old)
save("legacy_protocol4.pth", views, views, pickle_protocol=4, **old)
save("lightning_legacy.ckpt", lightning, named, **old)
wave = {"phase": {"w": torch.ones(2, dtype=torch.complex64)}, "good": {"w": numbered(3)}}
save("legacy_complex.pth", wave, {"good.w": numbered(3)}, **old)
torch.save({"w": torch.ones(2).to_sparse(), "d": torch.ones(1)}, FOLDER / "sparse.pth")
torch.jit.script(nn.Linear(1, 1)).save(str(FOLDER / "script.pt"))

lines = [
    f" {json.dumps(file)}: {{\n"
    + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in tensors.items())
    + "\n }"
    for file, tensors in expected.items()
]
(FOLDER / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
