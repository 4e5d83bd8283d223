"""Golden values of self-distillation: losses with gradients, schedules and whole training steps of tiny networks.

A re-statement in plain PyTorch of what facebookresearch/dino, dinov2 and dinov3 compute: losses as loops over crops,
Sinkhorn-Knopp on prototypes by samples, masks as booleans, the patch embedding as a convolution, clipping by
torch.nn.utils, AdamW by torch.optim with one group a parameter, dropped paths as factors that are given.

Command:  python3 tests/golden/dino_training.py > tests/golden/dino_training.json
Version:  PyTorch 2.13.0 (CPU, float64, written with 7 digits), seed 20250611
"""

import json
import math

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
G = torch.Generator().manual_seed(20250611)


def draw(*shape, std=1.0, mean=0.0):
    return (torch.randn(*shape, generator=G) * std + mean).float().double()  # exactly representable in float32


def plain(t):
    return dict(shape=list(t.shape), data=[float(f"{x:.7g}") for x in t.detach().flatten().tolist()])


# ---- losses

def sinkhorn(logits, temperature, iterations=3):
    q = torch.exp(logits / temperature).t()
    prototypes, samples = q.shape
    q = q / q.sum()
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / prototypes
        q = q / q.sum(0, keepdim=True) / samples
    return (q * samples).t()


def dino_pairs(student_crops, teacher_crops, temperature, local_weight=1.0):
    """Mean over pairs of a teacher's global crop and another crop of the student."""
    total, pairs = 0.0, 0
    for i, t in enumerate(teacher_crops):
        for j, s in enumerate(student_crops):
            if i == j:
                continue
            loss = -(t * F.log_softmax(s / temperature, -1)).sum(-1).mean()
            total = total + loss * (local_weight if j >= 2 else 1.0)
            pairs += 1
    return total / pairs


def koleo(x, eps=1e-8):
    x = F.normalize(x, eps=eps, p=2, dim=-1)
    dots = x.detach() @ x.detach().t()
    dots.fill_diagonal_(-1)
    distances = F.pairwise_distance(x, x[dots.argmax(1)], p=2, eps=1e-8)
    return -torch.log(distances + eps).mean()


def ibot(student, teacher, masks, temperature):
    """Logits of masked patches in the order of the flattened masks."""
    weights = (1 / masks.sum(-1).clamp(min=1.0)).unsqueeze(-1).expand_as(masks)[masks]
    return -((teacher * F.log_softmax(student / temperature, -1)).sum(-1) * weights).sum() / masks.shape[0]


def gram(student, anchor, per_image=True):
    student, anchor = F.normalize(student, dim=-1), F.normalize(anchor, dim=-1)
    if not per_image:
        student, anchor = student.flatten(0, 1), anchor.flatten(0, 1)
    return F.mse_loss(student @ student.transpose(-1, -2), anchor @ anchor.transpose(-1, -2))


def shrink(tokens, grid):
    side = math.isqrt(tokens.shape[1])
    maps = tokens.transpose(1, 2).unflatten(-1, (side, side))
    return F.interpolate(maps, size=(grid, grid), mode="bicubic", align_corners=False).flatten(-2).transpose(1, 2)


def losses():
    batch, prototypes, locals_, temp = 3, 7, 2, 0.1
    steps, center = [], torch.zeros(prototypes)
    for temperature in (0.04, 0.05, 0.07):
        teacher, student = draw(2 * batch, prototypes, std=0.3), draw((2 + locals_) * batch, prototypes, std=0.3)
        student.requires_grad_()
        targets = F.softmax((teacher - center) / temperature, -1)
        loss = dino_pairs(student.chunk(2 + locals_), targets.chunk(2), temp)
        loss.backward()
        center = center * 0.9 + teacher.mean(0) * 0.1
        steps.append(dict(temperature=temperature, teacher=plain(teacher), student=plain(student), loss=loss.item(),
                          grad=plain(student.grad), center=plain(center)))
    logits = draw(8, 6, std=0.4)
    masks = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    patches, patch_teacher = draw(4, 6, std=0.4).requires_grad_(), draw(4, 6, std=0.4)
    patch_targets = sinkhorn(patch_teacher, 0.05)
    patch_loss = ibot(patches, patch_targets, masks, temp)
    patch_loss.backward()
    features = draw(6, 5).requires_grad_()
    spread = koleo(features)
    spread.backward()
    s, a = draw(2, 4, 5).requires_grad_(), draw(2, 4, 5)
    per_image = gram(s, a)
    per_image.backward()
    large = draw(2, 36, 3)
    return dict(
        centering=steps, sinkhorn=dict(logits=plain(logits), temperature=0.06, targets=plain(sinkhorn(logits, 0.06))),
        ibot=dict(masks=masks.int().tolist(), teacher=plain(patch_teacher), student=plain(patches), temperature=0.05,
                  targets=plain(patch_targets), loss=patch_loss.item(), grad=plain(patches.grad)),
        koleo=dict(features=plain(features), loss=spread.item(), grad=plain(features.grad)),
        gram=dict(student=plain(s), anchor=plain(a), loss=per_image.item(), grad=plain(s.grad),
                  batchLoss=gram(s, a, False).item(), large=plain(large), small=plain(shrink(large, 4))))


# ---- whole steps

WIDTH, DEPTH, HEADS, PATCH = 8, 2, 2, 4


def make_vit(cfg):
    n, d, f = draw, WIDTH, WIDTH * 2
    linear = lambda i, o: dict(weight=n(i, o, std=0.3), bias=n(o, std=0.3))
    norm = lambda: dict(weight=n(d, std=0.3, mean=1), bias=n(d, std=0.3))
    block = lambda: dict(
        norm1=norm(), attention=dict(qkv=n(d, 3 * d, std=0.3), queryBias=n(d, std=0.3), valueBias=n(d, std=0.3), proj=linear(d, d)),
        norm2=norm(), mlp=dict(fc1=linear(d, f), fc2=linear(f, d)),
        **(dict(layerScale1=n(d, std=0.3, mean=0.5), layerScale2=n(d, std=0.3, mean=0.5)) if cfg["scale"] else {}))
    return dict(patchEmbed=linear(PATCH * PATCH * 3, d), clsToken=n(1, d), **(dict(maskToken=n(1, d)) if cfg["mask"] else {}),
                **(dict(registers=n(2, d)) if cfg["registers"] else {}), **(dict(positions=n(17, d)) if cfg["learned"] else {}),
                blocks=[block() for _ in range(DEPTH)], norm=norm())


def make_head(prototypes, last):
    linear = lambda i, o: dict(weight=draw(i, o, std=0.4), bias=draw(o, std=0.2))
    return dict(fc1=linear(WIDTH, 12), fc2=linear(12, 12), fc3=linear(12, 6), prototypes=draw(6, prototypes, std=0.3),
                **(dict(gains=draw(prototypes, std=0.2, mean=1)) if last == "gain" else {}))


def rope(grid, head_dim, factor):
    periods = 100.0 ** (torch.arange(head_dim // 4) * 2 / (head_dim // 2))
    axis = ((torch.arange(grid) + 0.5) / grid * 2 - 1) * factor
    coords = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)
    angles = (2 * math.pi * coords[:, :, None] / periods).flatten(1, 2).tile(2)
    return angles.sin(), angles.cos()


def rotate(x, sin, cos):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def vit(images, p, cfg, mask=None, paths=None, scales=None, final=None):
    """Class tokens and patch tokens; `final` are the class tokens' own last normalisation."""
    batch, d, k = images.shape[0], WIDTH, WIDTH // HEADS
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    kernel = p["patchEmbed"]["weight"].view(PATCH, PATCH, 3, d).permute(3, 2, 0, 1)
    x = F.conv2d(((images - mean) / std).permute(0, 3, 1, 2), kernel, p["patchEmbed"]["bias"], stride=PATCH)
    grid = x.shape[-1]
    x = x.flatten(2).transpose(1, 2)
    if mask is not None:
        x = torch.where(mask.unsqueeze(-1), p["maskToken"].unsqueeze(0), x)
    cls = p["clsToken"].expand(batch, 1, d)
    if cfg["learned"]:
        own = p["positions"][1:].t().view(1, d, 4, 4)
        if grid != 4:
            own = F.interpolate(own, scale_factor=((grid + 0.1) / 4,) * 2, mode="bicubic")
        cls, x = cls + p["positions"][0], x + own.flatten(2).transpose(1, 2)
    if cfg["registers"]:
        cls = torch.cat([cls, p["registers"].expand(batch, 2, d)], 1)
    prefix = cls.shape[1]
    x = torch.cat([cls, x], 1)
    for i, b in enumerate(p["blocks"]):
        factor = lambda branch: 1.0 if paths is None else paths[i][branch].view(batch, 1, 1)
        a, h = b["attention"], F.layer_norm(x, (d,), b["norm1"]["weight"], b["norm1"]["bias"], 1e-5)
        q, key, v = (h @ a["qkv"]).chunk(3, -1)
        q, v = q + a["queryBias"], v + a["valueBias"]
        q, key, v = (t.view(batch, -1, HEADS, k).transpose(1, 2) for t in (q, key, v))
        if not cfg["learned"]:
            sin, cos = rope(grid, k, 1.0 if scales is None else scales[i])
            q, key = (torch.cat([t[:, :, :prefix], rotate(t[:, :, prefix:], sin, cos)], 2) for t in (q, key))
        o = F.scaled_dot_product_attention(q, key, v).transpose(1, 2).flatten(2) @ a["proj"]["weight"] + a["proj"]["bias"]
        x = x + factor(0) * o * b.get("layerScale1", 1.0)
        h = F.layer_norm(x, (d,), b["norm2"]["weight"], b["norm2"]["bias"], 1e-5)
        m = b["mlp"]
        h = F.gelu(h @ m["fc1"]["weight"] + m["fc1"]["bias"]) @ m["fc2"]["weight"] + m["fc2"]["bias"]
        x = x + factor(1) * h * b.get("layerScale2", 1.0)
    out = F.layer_norm(x, (d,), p["norm"]["weight"], p["norm"]["bias"], 1e-5)
    tokens = out[:, 0] if final is None else F.layer_norm(x[:, 0], (d,), final["weight"], final["bias"], 1e-5)
    return tokens, out[:, prefix:]


def head(x, p, last):
    for name in ("fc1", "fc2"):
        x = F.gelu(x @ p[name]["weight"] + p[name]["bias"])
    x = F.normalize(x @ p["fc3"]["weight"] + p["fc3"]["bias"], dim=-1)
    if last == "free":
        return x @ p["prototypes"]
    return (x @ F.normalize(p["prototypes"], dim=0)) * p.get("gains", 1.0)


def leaves(tree, at=""):
    if isinstance(tree, torch.Tensor):
        return [(at, tree)]
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [leaf for k, v in items for leaf in leaves(v, f"{at}.{k}" if at else str(k))]


def mapped(tree, f):
    if isinstance(tree, torch.Tensor):
        return f(tree)
    return {k: mapped(v, f) for k, v in tree.items()} if isinstance(tree, dict) else [mapped(v, f) for v in tree]


def group(name, p, cfg, batch):
    """Learning rate and weight decay of a parameter, as get_params_groups_with_decay and apply_optim_scheduler give."""
    layer = DEPTH + 1
    if name.startswith("vit.blocks."):
        layer = int(name.split(".")[2]) + 1
    elif name.split(".")[0] == "vit" and name.split(".")[1] in ("patchEmbed", "clsToken", "maskToken", "registers", "positions"):
        layer = 0
    rate = batch["learningRate"] * cfg["layerDecay"] ** (DEPTH + 1 - layer)
    if name.startswith("vit.patchEmbed"):
        rate *= cfg["patchEmbedRate"]
    if name.split(".")[-1] in ("prototypes", "gains"):
        rate *= batch["prototypeRate"]
    last = name.split(".")[-1]
    free = last in ("bias", "queryBias", "valueBias", "layerScale1", "layerScale2") or "norm" in name.lower()
    return dict(params=[p], lr=rate, weight_decay=0.0 if free else batch["weightDecay"], betas=(0.9, cfg["beta2"]))


def clip(student, cfg):
    params = lambda *keys: [p for k in keys if k in student for _, p in leaves(student[k])]
    if cfg["clipOver"] == "parameter":
        for p in params("vit", "head", "patchHead", "localNorm"):
            p.grad.mul_((cfg["clipNorm"] / (p.grad.norm() + 1e-6)).clamp(max=1))
    else:
        for part in (("vit", "localNorm"), ("head",), ("patchHead",)):
            torch.nn.utils.clip_grad_norm_(params(*part), cfg["clipNorm"])


def bytes_of(*shape):
    return torch.randint(0, 257, shape, generator=G)


def make_batch(cfg, number):
    b, c = 3, 2
    batch = dict(globals=bytes_of(2 * b, 16, 16, 3), locals=bytes_of(c * b, 8, 8, 3), learningRate=2 ** -9, weightDecay=0.25,
                 momentum=0.75, teacherTemperature=0.0625, prototypeRate=cfg["prototypeRates"][number])
    if cfg["mask"]:
        batch["mask"] = torch.rand(2 * b, 16, generator=G) < torch.tensor([0.5, 0, 0.25, 0.1, 0, 0.6]).unsqueeze(1)
    if cfg["drop"]:
        keep = lambda n: (torch.rand(DEPTH, 2, n, generator=G) < 0.75).double() / 0.75
        batch |= dict(globalPaths=keep(2 * b).float().double(), localPaths=keep(c * b).float().double())
    if cfg["scales"]:
        batch |= dict(globalScales=draw(DEPTH, std=0.3).exp().float().double(), localScales=draw(DEPTH, std=0.3).exp().float().double())
    if cfg["gram"]:
        batch |= dict(gramCrops=bytes_of(2 * b, 24, 24, 3), gramWeight=1.5, localWeight=0.5, gramRefresh=number)
    return batch


def step(state, batch, cfg, optimizer):
    student, teacher, temp = state["student"], state["teacher"], 0.1
    pixels = lambda key: batch[key] / 256
    mask, last = batch.get("mask"), cfg["lastLayer"]
    with torch.no_grad():
        cls, patches = vit(pixels("globals"), teacher["vit"], cfg)
        logits = head(cls, teacher["head"], last)
        patch_logits = head(patches[mask], teacher.get("patchHead", teacher["head"]), last) if cfg["mask"] else None
        if cfg["assignment"] == "sinkhorn":
            assign = lambda l, center: sinkhorn(l, batch["teacherTemperature"])
        else:
            assign = lambda l, center: F.softmax((l - center) / batch["teacherTemperature"], -1)
        targets = assign(logits, state["centerP"])
        patch_targets = assign(patch_logits, state["patchCenterP"]) if cfg["mask"] else None
        anchors = shrink(vit(pixels("gramCrops"), state["gram"], cfg)[1], 4) if cfg["gram"] else None
    cls, patches = vit(pixels("globals"), student["vit"], cfg, mask, batch.get("globalPaths"), batch.get("globalScales"))
    local, _ = vit(pixels("locals"), student["vit"], cfg, None, batch.get("localPaths"), batch.get("localScales"), student.get("localNorm"))
    crops = [*head(cls, student["head"], last).chunk(2), *head(local, student["head"], last).chunk(2)]
    loss = dino_pairs(crops, targets.chunk(2), temp, batch.get("localWeight", 1.0))
    loss = loss + cfg["koleoWeight"] * sum(koleo(x) for x in cls.chunk(2))
    if cfg["mask"]:
        loss = loss + cfg["maskWeight"] * ibot(head(patches[mask], student.get("patchHead", student["head"]), last), patch_targets, mask, temp)
    if cfg["gram"]:
        loss = loss + batch["gramWeight"] * gram(patches, anchors)
    optimizer.zero_grad(set_to_none=False)
    loss.backward()
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for _, p in leaves(student)]
    norm = torch.sqrt(sum((g ** 2).sum() for g in grads))
    for _, p in leaves(student):
        p.grad = p.grad if p.grad is not None else torch.zeros_like(p)
    clip(student, cfg)
    for g, (name, p) in zip(optimizer.param_groups, leaves(student)):
        g.update({k: v for k, v in group(name, p, cfg, batch).items() if k != "params"})
    optimizer.step()
    with torch.no_grad():
        for (_, t), (_, s) in zip(leaves(teacher), leaves(student)):
            t.mul_(batch["momentum"]).add_(s, alpha=1 - batch["momentum"])
        state["centerP"] = state["centerP"] * 0.9 + logits.mean(0) * 0.1
        if cfg["mask"]:
            state["patchCenterP"] = state["patchCenterP"] * 0.9 + patch_logits.mean(0) * 0.1
        if cfg["gram"] and batch["gramRefresh"]:
            state["gram"] = mapped(teacher["vit"], lambda t: t.clone())
    return dict(loss=loss.item(), gradNorm=norm.item())


def training(cfg):
    def network():
        parts = dict(vit=make_vit(cfg), head=make_head(10, cfg["lastLayer"]))
        if cfg["patchHead"]:
            parts["patchHead"] = make_head(9, cfg["lastLayer"])
        if cfg["localNorm"]:
            parts["localNorm"] = dict(weight=draw(WIDTH, std=0.3, mean=1), bias=draw(WIDTH, std=0.3))
        return parts
    student, teacher = network(), network()
    state = dict(student=student, teacher=teacher, centerP=torch.zeros(10), patchCenterP=torch.zeros(9 if cfg["patchHead"] else 10),
                 **(dict(gram=make_vit(cfg)) if cfg["gram"] else {}))
    before = mapped(state, plain_clone)
    for _, p in leaves(student):
        p.requires_grad_()
    batches = [make_batch(cfg, i) for i in range(2)]
    optimizer = torch.optim.AdamW([group(n, p, cfg, batches[0]) for n, p in leaves(student)])
    metrics = [step(state, batch, cfg, optimizer) for batch in batches]
    moments = lambda key: mapped(student, lambda p: optimizer.state[p][key])
    after = mapped({**state, "first": moments("exp_avg"), "second": moments("exp_avg_sq")}, plain_clone)
    show = lambda v: plain(v.double()) if isinstance(v, torch.Tensor) and v.is_floating_point() else dict(shape=list(v.shape), data=v.int().flatten().tolist()) if isinstance(v, torch.Tensor) else v
    as_plain = lambda tree: mapped(tree, plain)
    return dict(config=cfg, before=as_plain(before), batches=[{k: show(v) for k, v in b.items()} for b in batches],
                metrics=metrics, after=as_plain(after))


def plain_clone(t):
    return t.detach().clone()


BASE = dict(assignment="sinkhorn", lastLayer="gain", patchHead=True, localNorm=False, mask=True, registers=True, learned=False,
            scale=True, drop=True, scales=False, gram=False, clipOver="network", clipNorm=0.5, layerDecay=0.5, patchEmbedRate=0.25,
            beta2=0.999, koleoWeight=0.125, maskWeight=0.75, prototypeRates=[0, 1])
CASES = dict(
    dino=dict(BASE, assignment="centering", lastLayer="unit", patchHead=False, mask=False, registers=False, learned=True, scale=False,
              clipOver="parameter", clipNorm=0.125, layerDecay=1, patchEmbedRate=1, koleoWeight=0, prototypeRates=[1, 1]),
    dinov2=BASE,
    dinov2Centered=dict(BASE, assignment="centering", patchHead=False, learned=True, registers=False),
    dinov3=dict(BASE, lastLayer="free", localNorm=True, scales=True, gram=True, beta2=0.99))


# ---- schedules

def cosine_scheduler(base, final, total, warmup=0, start=0.0):
    """DINO's and DINOv2's."""
    ramp = torch.linspace(start, base, warmup)
    i = torch.arange(total - warmup)
    return torch.cat([ramp, final + 0.5 * (base - final) * (1 + torch.cos(math.pi * i / len(i)))])


def warmup_cosine_constant(start, peak, end, warmup, total, cosine):
    """DINOv3's."""
    ramp = torch.linspace(start, peak, warmup + 1)[:-1]
    wave = (torch.cos(torch.linspace(0, math.pi, cosine)) + 1) / 2
    return torch.cat([ramp, (peak - end) * wave + end, torch.full((total - cosine - warmup,), end)])


SCHEDULES = dict(dino=plain(cosine_scheduler(0.5, 0.01, 40, 8)), dinoWhole=plain(cosine_scheduler(0.04, 0.4, 40)),
                 dinov3=plain(warmup_cosine_constant(0.0, 0.5, 0.01, 8, 40, 32)),
                 dinov3Short=plain(warmup_cosine_constant(0.0, 0.0, 2.0, 0, 40, 10)))

print(json.dumps(dict(generator="tests/golden/dino_training.py", torch=torch.__version__, losses=losses(), schedules=SCHEDULES,
                      steps={name: training(cfg) for name, cfg in CASES.items()})))
