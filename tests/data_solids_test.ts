import assert from "node:assert/strict";
import { isSolids, loadSolids, SOLID_KINDS, SOLID_PATTERNS, type SolidsDataset } from "novae/data/mod.ts";
import { SOLIDS_MASK, solidsFactors } from "novae/data/mod.ts";
import { SOLIDS } from "novae/data/solids_geometry.ts";
import { renderRange } from "novae/data/solids_render.ts";
import { CAMERA_DISTANCE, FRAME_HALF } from "novae/data/solids_scene.ts";
import { Rng } from "novae/tensor/mod.ts";

const count = (n: number) => Array.from({ length: n }, (_, i) => i);

/** 1,000 small images, rendered once for all tests that measure. */
let shared: Promise<SolidsDataset> | undefined;
const small = () =>
  shared ??= loadSolids({ split: "train", count: 1000, imageSize: 32, cacheDir: null, workers: 0 });

Deno.test("an image of the solids is the same in any count, order and number of workers", async () => {
  const alone = renderRange({ seed: 4, split: "train", start: 17, count: 1, imageSize: 48 });
  const few = await loadSolids({
    split: "train",
    seed: 4,
    count: 20,
    imageSize: 48,
    cacheDir: null,
    workers: 0,
  });
  const many = await loadSolids({
    split: "train",
    seed: 4,
    count: 250,
    imageSize: 48,
    cacheDir: null,
    workers: 2,
  });
  assert.deepEqual(many.images(count(20)), few.images(count(20)));
  assert.deepEqual(many.masks(count(20)), few.masks(count(20)));
  assert.deepEqual(many.depths(count(20)), few.depths(count(20)));
  assert.deepEqual(few.images([17]).data, Float32Array.from(alone.pixels, (byte) => byte / 255));
  assert.deepEqual(many.images([200, 3]).data.subarray(48 * 48 * 3), few.images([3]).data);
});

Deno.test("seeds and splits give different images and hashes", async () => {
  const load = (seed: number, split: "train" | "test") =>
    loadSolids({ seed, split, count: 10, imageSize: 16, cacheDir: null });
  const sets = [await load(0, "train"), await load(1, "train"), await load(0, "test")];
  assert.equal(new Set(sets.map((set) => set.hash)).size, 3);
  const first = sets.map((set) => set.images([0]).data.join());
  assert.equal(new Set(first).size, 3);
  assert.equal((await load(0, "train")).hash, sets[0].hash);
});

Deno.test("the depth of a sphere and of the floor equals the closed form at every pixel", () => {
  const size = 64,
    { depth, mask } = renderRange({ seed: 9, split: "test", start: 0, count: 1, imageSize: size });
  const f = solidsFactors(9, "test", 0), radius = 0.84 * f.size;
  // In the camera's frame (right, up, forward) the sphere's centre is at the camera's distance.
  const centre = [f.frameX * FRAME_HALF, f.frameY * FRAME_HALF, CAMERA_DISTANCE];
  const sinE = Math.sin(f.cameraElevation), cosE = Math.cos(f.cameraElevation);
  const eyeY = radius - centre[1] * cosE + CAMERA_DISTANCE * sinE;
  assert.equal(f.kind, "sphere");
  let seen = 0;
  for (let i = 0; i < size * size; i++) {
    const px = ((i % size + 0.5) / size * 2 - 1) * FRAME_HALF / CAMERA_DISTANCE;
    const py = (1 - (Math.floor(i / size) + 0.5) / size * 2) * FRAME_HALF / CAMERA_DISTANCE;
    const a = px * px + py * py + 1, b = px * centre[0] + py * centre[1] + centre[2];
    const discriminant = b * b - a * (centre[0] ** 2 + centre[1] ** 2 + centre[2] ** 2 - radius ** 2);
    assert.equal(
      mask[i] === SOLIDS_MASK.solid,
      discriminant > 0,
      `pixel ${i} is on the right side of the outline`,
    );
    let expected: number | undefined;
    if (discriminant > 0) expected = (b - Math.sqrt(discriminant)) / a;
    else if (mask[i] === SOLIDS_MASK.floor) expected = eyeY / (sinE - py * cosE);
    if (expected === undefined) continue;
    assert.ok(Math.abs(depth[i] / 4096 - expected) <= 0.5 / 4096 + 1e-9, `pixel ${i}`);
    seen++;
  }
  assert.ok(seen > size * size / 2);
});

Deno.test("rays meet every solid on its surface, with the outward normal", () => {
  const rng = new Rng(1), normal = new Float64Array(3);
  for (const kind of SOLID_KINDS) {
    const solid = SOLIDS[kind];
    for (let n = 0; n < 400; n++) {
      const [ox, oy, oz, tx, ty, tz] = rng.normal(6).map((v, i) => i < 3 ? 3 * v : 0.4 * v);
      if (Math.hypot(ox, oy, oz) < 2) continue;
      const ray = Float64Array.of(ox, oy, oz, tx - ox, ty - oy, tz - oz), t = solid.intersect(ray);
      if (t === Infinity) continue;
      const p = [0, 1, 2].map((i) => ray[i] + t * ray[3 + i]);
      solid.normal(p[0], p[1], p[2], normal);
      const dot = p[0] * normal[0] + p[1] * normal[1] + p[2] * normal[2];
      assert.ok(Math.abs(Math.hypot(...normal) - 1) < 1e-9, `${kind}: unit normal`);
      assert.ok(
        normal[0] * ray[3] + normal[1] * ray[4] + normal[2] * ray[5] < 1e-6,
        `${kind}: faces the ray`,
      );
      assert.ok(Math.hypot(...p) <= solid.radius + 1e-3, `${kind}: inside its bounding sphere`);
      // At a point of a convex surface the plane through it touches the solid: n · p is the reach along n.
      if (solid.convex) {
        assert.ok(
          Math.abs(dot - solid.support(normal[0], normal[1], normal[2])) < 1e-6,
          `${kind}: touching plane`,
        );
      } else {
        assert.ok(dot <= solid.support(normal[0], normal[1], normal[2]) + 1e-3, `${kind}: within its reach`);
      }
    }
  }
});

Deno.test("rays towards the middle of a convex solid always hit, and rays past its bounding sphere never", () => {
  const rng = new Rng(2);
  for (const kind of SOLID_KINDS) {
    for (let n = 0; n < 200; n++) {
      const [x, y, z, u, v, w] = rng.normal(6), length = Math.hypot(x, y, z);
      const o = [x, y, z].map((c) => 4 * c / length);
      if (SOLIDS[kind].convex) {
        const t = SOLIDS[kind].intersect(Float64Array.of(...o, ...o.map((c) => -c)));
        assert.ok(t > 0.7 && t < 1, `${kind}: t = ${t}`);
      }
      // A direction at right angles to the place stays 4 away from the middle.
      const side = [o[1] * w - o[2] * v, o[2] * u - o[0] * w, o[0] * v - o[1] * u];
      assert.equal(SOLIDS[kind].intersect(Float64Array.of(...o, ...side)), Infinity, kind);
    }
  }
});

Deno.test("rays straight down meet the solids at the places worked out by hand", () => {
  const down = (kind: typeof SOLID_KINDS[number], x: number, z: number) =>
    5 - SOLIDS[kind].intersect(Float64Array.of(x, 5, z, 0, -1, 0));
  const close = (got: number, wanted: number) =>
    assert.ok(Math.abs(got - wanted) < 1e-3, `${got} ≠ ${wanted}`);
  close(down("torus", 0.74, 0), 0.27);
  close(down("torus", 0, 0.74 + 0.1), Math.sqrt(0.27 ** 2 - 0.1 ** 2));
  assert.equal(down("torus", 0.2, 0.1), -Infinity);
  close(down("beads", 0.77, 0), 0.255);
  close(down("beads", -0.77, 0.1), Math.sqrt(0.255 ** 2 - 0.1 ** 2));
  assert.equal(down("beads", 0.77 * Math.cos(Math.PI / 8), 0.77 * Math.sin(Math.PI / 8)), -Infinity);
  close(down("cylinder", 0.3, 0.2), 0.72);
  close(down("capsule", 0.2, 0), 0.55 + Math.sqrt(0.47 ** 2 - 0.2 ** 2));
  close(down("cone", 0.38, 0), (0.95 - 0.62) / 2);
  close(down("cross", 0.1, -0.2), 0.96);
  close(down("cross", 0.9, 0.2), 0.25);
  assert.equal(down("cross", 0.5, 0.5), -Infinity);
});

Deno.test("each solid stands in the frame, whole and large enough", async () => {
  const data = await small(), size = data.imageSize;
  const extents = SOLID_KINDS.map((): number[] => []), areas = SOLID_KINDS.map((): number[] => []);
  for (let i = 0; i < data.size; i++) {
    const mask = data.masks([i]).data;
    let left = size, right = -1, top = size, bottom = -1, area = 0;
    mask.forEach((value, at) => {
      if (value !== SOLIDS_MASK.solid) return;
      left = Math.min(left, at % size);
      right = Math.max(right, at % size);
      top = Math.min(top, Math.floor(at / size));
      bottom = Math.max(bottom, Math.floor(at / size));
      area++;
    });
    assert.ok(left > 0 && right < size - 1 && top > 0 && bottom < size - 1, `image ${i} touches the frame`);
    const extent = Math.max(right - left, bottom - top) + 1;
    extents[i % 10].push(extent / size);
    areas[i % 10].push(area / size ** 2);
    assert.ok(
      mask.includes(SOLIDS_MASK.floor) && mask.includes(SOLIDS_MASK.wall),
      `image ${i} shows floor and wall`,
    );
  }
  const mean = (values: number[]) => values.reduce((sum, v) => sum + v, 0) / values.length;
  SOLID_KINDS.forEach((kind, k) => {
    assert.ok(mean(extents[k]) > 0.5 && mean(extents[k]) < 0.66, `${kind}: mean extent ${mean(extents[k])}`);
    assert.ok(Math.min(...extents[k]) > 0.3 && Math.max(...extents[k]) < 0.8, `${kind}: extents`);
    assert.ok(Math.min(...areas[k]) > 0.07 && Math.max(...areas[k]) < 0.4, `${kind}: areas`);
  });
});

Deno.test("classes are balanced and can be told apart by outline and depth", async () => {
  const data = await small(), size = data.imageSize, train = 800;
  assert.deepEqual([...data.labels(count(12))], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
  assert.deepEqual(data.classes, SOLID_KINDS);
  const features = count(data.size).map((i) => outline(data.masks([i]).data, data.depths([i]).data, size));
  let right = 0;
  for (let i = train; i < data.size; i++) {
    let best = Infinity, label = -1;
    for (let j = 0; j < train; j++) {
      let distance = 0;
      for (let k = 0; k < features[i].length && distance < best; k++) {
        distance += (features[i][k] - features[j][k]) ** 2;
      }
      if (distance < best) [best, label] = [distance, j % 10];
    }
    if (label === i % 10) right++;
  }
  // Chance is 0.1.
  assert.ok(right / (data.size - train) > 0.7, `nearest neighbour accuracy ${right / (data.size - train)}`);
});

/** Outline and depth relief on a grid over the solid's bounding square. */
function outline(mask: ArrayLike<number>, depth: ArrayLike<number>, size: number): number[] {
  const inside = count(size * size).filter((i) => mask[i] === SOLIDS_MASK.solid);
  const xs = inside.map((i) => i % size), ys = inside.map((i) => Math.floor(i / size));
  const cx = (Math.min(...xs) + Math.max(...xs)) / 2, cy = (Math.min(...ys) + Math.max(...ys)) / 2;
  const half = Math.max(Math.max(...xs) - cx, Math.max(...ys) - cy) + 0.5, grid = 12;
  const mean = inside.reduce((sum, i) => sum + depth[i], 0) / inside.length;
  return count(grid * grid).flatMap((k) => {
    const x = Math.round(cx + ((k % grid + 0.5) / grid * 2 - 1) * half);
    const y = Math.round(cy + ((Math.floor(k / grid) + 0.5) / grid * 2 - 1) * half), i = y * size + x;
    return mask[i] === SOLIDS_MASK.solid ? [1, 2 * (depth[i] - mean)] : [0, 0];
  });
}

Deno.test("factors are uniform and independent of the class and of each other", () => {
  const n = 4000, all = count(n).map((i) => solidsFactors(3, "train", i));
  const numeric = Object.entries(all[0]).filter(([, v]) => typeof v === "number").map(([key]) => key);
  assert.equal(numeric.length, 26);
  const columns = numeric.map((key) => {
    const values = all.map((f) => f[key as "size"]), low = Math.min(...values), high = Math.max(...values);
    const unit = values.map((v) => (v - low) / (high - low) - 0.5);
    const variance = unit.reduce((sum, v) => sum + v * v, 0) / n;
    assert.ok(Math.abs(variance - 1 / 12) < 0.006, `${key} is uniform: variance ${variance}`);
    return unit.map((v) => v / Math.sqrt(variance));
  });
  columns.push(all.map((_, i) => (i % 10 - 4.5) / Math.sqrt(8.25)));
  // 351 correlations of independent columns stay below 4.5 standard deviations.
  for (let a = 0; a < columns.length; a++) {
    for (let b = 0; b < a; b++) {
      const r = columns[a].reduce((sum, v, i) => sum + v * columns[b][i], 0) / n;
      assert.ok(Math.abs(r) < 4.5 / Math.sqrt(n), `${numeric[a] ?? "class"} and ${numeric[b]}: r = ${r}`);
    }
  }
  let chi = 0;
  for (const kind of SOLID_KINDS) {
    for (const pattern of SOLID_PATTERNS) {
      const expected = n / 40, seen = all.filter((f) => f.kind === kind && f.pattern === pattern).length;
      chi += (seen - expected) ** 2 / expected;
    }
  }
  assert.ok(chi < 72, `chi-square of class and pattern ${chi} is below the 0.999 quantile for 39 degrees`);
});

Deno.test("masks, depths and factors belong to the image of the same index", async () => {
  const data = await small();
  assert.ok(isSolids(data));
  const [masks, depths] = [data.masks([5, 2]), data.depths([5, 2])];
  assert.deepEqual([masks.dtype, masks.shape, depths.dtype, depths.shape], [
    "int32",
    [2, 32, 32],
    "float32",
    [2, 32, 32],
  ]);
  assert.deepEqual(masks.data.subarray(1024), data.masks([2]).data);
  assert.deepEqual(depths.data.subarray(1024), data.depths([2]).data);
  assert.deepEqual(data.factors(5), solidsFactors(0, "train", 5));
  assert.throws(() => data.masks([1000]), /index must be in 0 … 999, got 1000/);
  assert.throws(() => data.factors(-1), RangeError);
});

Deno.test("the brightness of a plain solid follows its light", async () => {
  // The lit half of a sphere is brighter than the other half, on the side that the factors say.
  let right = 0, asked = 0;
  const data = await small(), size = data.imageSize;
  for (let i = 0; i < data.size; i += 10) {
    const f = data.factors(i);
    if (f.pattern !== "plain" || Math.abs(f.lightAzimuth) < 0.3) continue;
    const pixels = data.images([i]).data, mask = data.masks([i]).data, centre = (1 + f.frameX) / 2 * size;
    const sides = [0, 0], counts = [0, 0];
    mask.forEach((value, at) => {
      if (value !== SOLIDS_MASK.solid) return;
      const side = at % size + 0.5 > centre ? 1 : 0;
      sides[side] += pixels[3 * at] + pixels[3 * at + 1] + pixels[3 * at + 2];
      counts[side]++;
    });
    asked++;
    if ((sides[1] / counts[1] > sides[0] / counts[0]) === f.lightAzimuth > 0) right++;
  }
  assert.ok(asked >= 8 && right === asked, `${right} of ${asked}`);
});
