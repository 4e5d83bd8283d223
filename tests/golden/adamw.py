"""Golden values of AdamW: python3 tests/golden/adamw.py > tests/golden/adamw.json (PyTorch 2.13, seed 1)."""
import json, torch

torch.manual_seed(1)
start = torch.randn(3, 4)
bias = torch.randn(4)
w, b = start.clone().requires_grad_(), bias.clone().requires_grad_()
opt = torch.optim.AdamW(
    [{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}], lr=0.01, betas=(0.9, 0.99)
)
grads, after = [], []
for _ in range(5):
    gw, gb = torch.randn(3, 4), torch.randn(4)
    w.grad, b.grad = gw, gb
    opt.step()
    grads.append({"weight": gw.flatten().tolist(), "bias": gb.tolist()})
    after.append({"weight": w.detach().flatten().tolist(), "bias": b.detach().tolist()})
print(json.dumps({"torch": torch.__version__, "weight": start.flatten().tolist(), "bias": bias.tolist(), "grads": grads, "after": after}))
