"""Golden values of the path, the time shift, the losses, every guidance mode and every sampler.

PyTorch (CPU), float64, seed 0. Command: python3 tests/golden/diffusion_sampling.py > tests/golden/diffusion_sampling.json
The velocity is a random perceptron of latents, time and label; the weak model is another one. Guidance restates
`RectifiedFlow.sample` of shiml20/SVG, DPM-Solver++(2M) is written with sigma and lambda as in its paper, the stochastic
sampler with drift, score and diffusion as in willisma/SiT, Dormand-Prince with the step choice of torchdiffeq for each
sample alone.
"""
import json
import math

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
B, N, Z, H, CLASSES, STEPS, SHIFT = 3, 2, 3, 8, 4, 10, 0.5
LABELS = torch.tensor([2, 0, 3])


def field():
    shapes = dict(input=(Z, H), time=(H,), label=(CLASSES + 1, H), output=(H, Z))
    scales = dict(input=0.6, time=1.5, label=1.0, output=0.8)
    return {k: (scales[k] * torch.randn(s)).float().double() for k, s in shapes.items()}


MAIN, WEAK = field(), field()
NOISE, DATA = torch.randn(B, N, Z).float().double(), torch.randn(B, N, Z).float().double()
STEP_NOISE = torch.randn(STEPS, B, N, Z).float().double()


def velocity(z, t, y, p=MAIN):
    """`t` is one number or [B]."""
    t = torch.as_tensor(t).reshape(-1, 1, 1) * p["time"]
    return torch.tanh(z @ p["input"] + t + p["label"][y][:, None]) @ p["output"]


def shifted(t, s):
    return s * t / (1 + (s - 1) * t)


TIMES = [shifted(i / STEPS, SHIFT) for i in range(STEPS)] + [1.0]
flat = lambda x: [float(f"{v:.9g}") for v in torch.as_tensor(x).reshape(-1).tolist()]

# Guidance -----------------------------------------------------------------------------------------------------------
W = 2.5
MODES = ["constant", "late", "early", "early-0.15", "linear", "cfg_star-1-0", "cfg_star-2-0.5", "interval"]


def guided(mode, z, t, i, weak=False):
    vc = velocity(z, t, LABELS)
    vu = velocity(z, t, LABELS, WEAK) if weak else velocity(z, t, torch.full((B,), CLASSES))
    w = W
    if mode == "late":
        w = W if (i + 1) / STEPS > 0.5 else 1.0
    elif mode == "early":
        w = W if (i + 1) / STEPS < 0.5 else 1.0
    elif mode.startswith("early-"):
        w = W if float(t) > float(mode.split("-")[1]) else 1.0
    elif mode == "linear":
        w = 1.0 + (W - 1.0) * (i + 1) / STEPS
    elif mode == "interval":  # [0.2, 0.7]
        w = W if 0.2 <= float(t) <= 0.7 else 1.0
    elif mode.startswith("cfg_star"):
        skip, ratio = int(mode.split("-")[1]), float(mode.split("-")[2])
        if i < skip:
            return -vu * ratio
    return vu + w * (vc - vu)


# Samplers: each yields the latents after every step ---------------------------------------------------------------------
def euler(v, z):
    for i in range(STEPS):
        z = z + (TIMES[i + 1] - TIMES[i]) * v(z, TIMES[i], i)
        yield z


def heun(v, z):
    for i in range(STEPS):
        dt = TIMES[i + 1] - TIMES[i]
        a = v(z, TIMES[i], i)
        z = z + 0.5 * dt * (a + v(z + dt * a, TIMES[i + 1], i))
        yield z


def midpoint(v, z):
    for i in range(STEPS):
        dt = TIMES[i + 1] - TIMES[i]
        z = z + dt * v(z + dt / 2 * v(z, TIMES[i], i), TIMES[i] + dt / 2, i)
        yield z


def dpmpp2m(v, z):
    alpha, sigma = torch.tensor(TIMES), 1 - torch.tensor(TIMES)
    lam = torch.log(alpha) - torch.log(sigma)
    before = None
    for i in range(STEPS):
        d = z + sigma[i] * v(z, TIMES[i], i)
        h = lam[i + 1] - lam[i]
        bar = d
        if before is not None and i < STEPS - 1:
            r = (lam[i] - lam[i - 1]) / h
            bar = (1 + 1 / (2 * r)) * d - 1 / (2 * r) * before
        z = sigma[i + 1] / sigma[i] * z - alpha[i + 1] * torch.expm1(-h) * bar
        before = d
        yield z


def euler_maruyama(v, z, norm=0.7, last=0.04):
    times = [(1 - last) * shifted(i / (STEPS - 1), SHIFT) for i in range(STEPS)] + [1.0]
    for i in range(STEPS):
        t, dt = times[i], times[i + 1] - times[i]
        u = v(z, t, i)
        score = (t * u - z) / (1 - t)
        w = norm * (1 - t)
        mean = z + (u + w * score) * dt
        z = mean + math.sqrt(2 * w) * math.sqrt(dt) * STEP_NOISE[i] if i < STEPS - 1 else mean
        yield z


C = [0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1]
A = [[], [1 / 5], [3 / 40, 9 / 40], [44 / 45, -56 / 15, 32 / 9],
     [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
     [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
     [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84]]
FIFTH = [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0]
FOURTH = [5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40]
RTOL, ATOL = 1e-3, 1e-6


def dopri5_alone(v, z, b):
    """The way of sample b, which is [1, N, Z] here."""
    f = lambda z, t, i: v(z.expand(B, N, Z), t, i)[b:b + 1]
    rms = lambda x, size: ((x / (ATOL + RTOL * size)) ** 2).mean().sqrt().item()
    h = None
    for i in range(STEPS):
        t, end = TIMES[i], TIMES[i + 1]
        k1 = f(z, t, i)
        if h is None:
            size, speed = rms(z, z.abs()), rms(k1, z.abs())
            h0 = min(0.01 * size / speed, end - t)
            change = rms(f(z + h0 * k1, t + h0, i) - k1, z.abs()) / h0
            h = min(100 * h0, (0.01 / max(speed, change)) ** (1 / 5))
        while t < end:
            step = min(h, end - t)
            ks = [k1]
            for s in range(1, 7):
                ks.append(f(z + step * sum(a * k for a, k in zip(A[s], ks)), t + C[s] * step, i))
            new = z + step * sum(w * k for w, k in zip(FIFTH, ks))
            error = rms(step * sum((w - x) * k for w, x, k in zip(FIFTH, FOURTH, ks)), torch.maximum(z.abs(), new.abs()))
            proposed = step * (10.0 if error == 0 else min(10.0, max(0.9 / error ** (1 / 5), 1.0 if error < 1 else 0.2)))
            if error <= 1:
                z, k1 = new, ks[6]
                cut = step < h
                t = end if cut else t + step
                h = max(h, proposed) if cut else proposed
            else:
                h = proposed
        yield z


def dopri5(v, z):
    for parts in zip(*[dopri5_alone(v, z[b:b + 1], b) for b in range(B)]):
        yield torch.cat(parts)


SAMPLERS = dict(euler=euler, heun=heun, midpoint=midpoint, dpmpp2m=dpmpp2m, dopri5=dopri5,
                eulerMaruyama=euler_maruyama)
constant = lambda z, t, i: guided("constant", z, t, i)
last = lambda ways: flat(list(ways)[-1])

# Path and losses -----------------------------------------------------------------------------------------------------
t = torch.tensor([0.1, 0.5, 0.85])
at = t.reshape(B, 1, 1)
point = (1 - at) * NOISE + at * DATA
target = DATA - NOISE
predicted = velocity(point, t, LABELS)
cosine = lambda a, b: torch.nn.functional.cosine_similarity(a, b, dim=-1)
print(json.dumps({
    "generator": f"tests/golden/diffusion_sampling.py, PyTorch {torch.__version__}, seed 0",
    "main": {k: flat(v) for k, v in MAIN.items()}, "weak": {k: flat(v) for k, v in WEAK.items()},
    "shape": [B, N, Z], "hidden": H, "classes": CLASSES, "labels": LABELS.tolist(),
    "noise": flat(NOISE), "data": flat(DATA), "stepNoise": [flat(x) for x in STEP_NOISE],
    "steps": STEPS, "shift": SHIFT, "cfgScale": W, "times": TIMES,
    "path": {"t": flat(t), "point": flat(point), "velocity": flat(target), "predicted": flat(predicted),
             "mse": ((predicted - target) ** 2).mean().item(),
             "cosine": (1 - cosine(predicted, target)).mean().item(),
             "alignment": -cosine(predicted, DATA).mean().item()},
    "shifts": {str(s): [shifted(i / 8, s) for i in range(9)] for s in (0.15, 0.4, 1.0, 6.93)},
    "samplers": {name: [flat(z) for z in run(constant, NOISE)] for name, run in SAMPLERS.items()},
    "guidance": {mode: {name: last(SAMPLERS[name](lambda z, t, i: guided(mode, z, t, i), NOISE))
                        for name in ("euler", "heun")} for mode in MODES},
    "autoguidance": last(euler(lambda z, t, i: guided("constant", z, t, i, weak=True), NOISE)),
}))
