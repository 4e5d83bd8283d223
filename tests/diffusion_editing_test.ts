import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  ditConfig,
  type DitParams,
  editLatents,
  initDit,
  interpolateNoise,
  keepKnown,
  type LatentSampler,
  noiseOf,
  openLatentSampler,
  sample,
  type SamplerName,
  sampleRow,
  SAMPLERS,
  tokensInBox,
  type Velocity,
} from "novae/diffusion/mod.ts";
import {
  float32,
  gatherRows,
  type HostTensor,
  isHostTensor,
  mapTree,
  Rng,
  rows,
  zeros,
} from "novae/tensor/mod.ts";

await tf.setBackend("cpu");

const CONFIG = ditConfig("tiny", { channels: 3, grid: 3, classes: 2 });
const PARAMS = livelyParams();
const BOX = { row: 0, column: 1, rows: 2, columns: 2 };
const IN_BOX = [1, 2, 4, 5];

/** Weights under which the velocity depends on latents, time and label: no zero matrix is left. */
function livelyParams(): DitParams<HostTensor> {
  const rng = new Rng(11);
  return mapTree<DitParams<HostTensor>>(initDit(rng, CONFIG), isHostTensor, (leaf, path) => {
    const { data, shape } = leaf as HostTensor, extra = rng.split("extra", path).normal(data.length);
    return float32(Float32Array.from(data, (v, i) => v + 0.1 * extra[i]), shape);
  });
}

function images(count: number, seed = 1): HostTensor {
  return float32(new Rng(seed).normal(count * 27), [count, 9, 3]);
}

/** Latents of some tokens. */
function tokens(zBNZ: HostTensor, indices: readonly number[]): HostTensor {
  const [count, n, channels] = zBNZ.shape, flat = { ...zBNZ, shape: [count * n, channels] };
  return gatherRows(flat, Array.from({ length: count }, (_, b) => indices.map((i) => b * n + i)).flat());
}

const OUTSIDE = [...Array(9).keys()].filter((i) => !IN_BOX.includes(i));
const REQUEST = { config: CONFIG, params: PARAMS, box: BOX, labels: [0, 1, 1], seed: 4, steps: 4 };

async function withSampler<T>(use: (sampler: LatentSampler) => Promise<T>, batchSize = 32): Promise<T> {
  const sampler = await openLatentSampler(CONFIG, { device: "cpu", batchSize });
  try {
    return await use(sampler);
  } finally {
    await sampler.dispose();
  }
}

Deno.test("kept tokens are the image's to the last bit with every sampler, and the rest is drawn", async () => {
  const dataBNZ = images(3);
  await withSampler(async (sampler) => {
    for (const name of Object.keys(SAMPLERS) as SamplerName[]) {
      for (
        const [edit, kept, drawn] of [["inside", OUTSIDE, IN_BOX], ["outside", IN_BOX, OUTSIDE]] as const
      ) {
        const edited = await editLatents(sampler, { ...REQUEST, dataBNZ, sampler: name, edit });
        assert.deepEqual(tokens(edited, kept).data, tokens(dataBNZ, kept).data, `${name}, ${edit}`);
        const [now, before] = [edited, dataBNZ].map((z) => tokens(z, drawn).data);
        assert.ok(now.every((v, i) => v !== before[i] && Number.isFinite(v)), `${name}, ${edit}`);
      }
    }
  });
});

Deno.test("what was in the edited part changes nothing, and what was in the rest changes the edited part", async () => {
  const dataBNZ = images(3), other = images(3, 2);
  const mixed = (indices: readonly number[]) => {
    const data = dataBNZ.data.map((v, i) => indices.includes(Math.floor(i / 3) % 9) ? other.data[i] : v);
    return float32(data as Float32Array, dataBNZ.shape);
  };
  await withSampler(async (sampler) => {
    const edit = (data: HostTensor) => editLatents(sampler, { ...REQUEST, dataBNZ: data, repeats: 2 });
    const plain = await edit(dataBNZ);
    assert.deepEqual((await edit(mixed(IN_BOX))).data, plain.data);
    assert.notDeepEqual(tokens(await edit(mixed(OUTSIDE)), IN_BOX).data, tokens(plain, IN_BOX).data);
    assert.notDeepEqual(
      (await editLatents(sampler, { ...REQUEST, dataBNZ, seed: 5, repeats: 2 })).data,
      plain.data,
    );
  });
});

Deno.test("an edit is a pure function of its number and seed: alone, in other batches and again it is the same", async () => {
  const dataBNZ = images(3), request = { ...REQUEST, dataBNZ, repeats: 3, cfgScale: 2 };
  const all = await withSampler((sampler) => editLatents(sampler, request));
  const again = await withSampler((sampler) => editLatents(sampler, request));
  assert.deepEqual(again.data, all.data);
  const inPairs = await withSampler((sampler) => editLatents(sampler, request), 2);
  assertClose(inPairs.data, all.data, 1e-5);
  const alone = await withSampler((sampler) =>
    editLatents(sampler, { ...request, dataBNZ: rows(dataBNZ, 2, 3), labels: [1], firstIndex: 2 })
  );
  assertClose(alone.data, rows(all, 2, 3).data, 1e-5);
});

/** Two tokens of unit variance and a correlation: the velocity of their path in closed form. */
function pairVelocity(correlation: number): Velocity {
  return (z, t) => {
    const gain = (variance: number) => {
      const noise = tf.sub(1, t), all = tf.add(tf.mul(tf.square(t), variance), tf.square(noise));
      return tf.div(tf.sub(tf.mul(t, variance), noise), all);
    };
    const [a, b] = tf.split(z, 2, 1), mean = tf.mul(tf.add(a, b), 0.5), half = tf.mul(tf.sub(a, b), 0.5);
    const along = tf.mul(mean, gain(1 + correlation)), across = tf.mul(half, gain(1 - correlation));
    return tf.concat([tf.add(along, across), tf.sub(along, across)], 1);
  };
}

/** Data and noise of pairs of which the first token is known. */
function pairs(count: number, channels = 1) {
  const dataBNZ = float32(new Rng(6).normal(2 * count * channels), [count, 2, channels]);
  const noiseBNZ = noiseOf(new Rng(7), [...Array(count).keys()], [2, channels]);
  return { dataBNZ, noiseBNZ, callback: keepKnown({ dataBNZ, noiseBNZ, known: [true, false] }) };
}

Deno.test("a token that knows nothing of the known one ends where it does without it", async () => {
  const { dataBNZ, noiseBNZ, callback } = pairs(20);
  const options = { steps: 200, sampler: "heun", device: "cpu", taps: ["z"], callback } as const;
  const { data } = await sample(pairVelocity(0), noiseBNZ, options);
  for (let i = 0; i < 20; i++) {
    assert.equal(data[2 * i], dataBNZ.data[2 * i]);
    assert.ok(Math.abs(data[2 * i + 1] - noiseBNZ.data[2 * i + 1]) < 1e-3); // unit Gaussian data: noise comes back
  }
});

Deno.test("a correlated token follows the equation dz/dt = v(known path, z), as Runge and Kutta's method solves it", async () => {
  const { dataBNZ, noiseBNZ, callback } = pairs(10), rho = 0.8;
  const { data } = await sample(pairVelocity(rho), noiseBNZ, {
    steps: 400,
    device: "cpu",
    trajectory: "float64",
    taps: ["z"],
    callback,
  });
  for (let i = 0; i < 10; i++) {
    const [noise, wanted] = [noiseBNZ.data[2 * i], dataBNZ.data[2 * i]];
    const slope = (t: number, b: number) => {
      const gain = (s: number) => (t * s - (1 - t)) / (t * t * s + (1 - t) ** 2),
        a = (1 - t) * noise + t * wanted;
      return (a + b) / 2 * gain(1 + rho) - (a - b) / 2 * gain(1 - rho);
    };
    let b = noiseBNZ.data[2 * i + 1];
    for (let k = 0, h = 1 / 2000; k < 2000; k++) {
      const t = k * h, k1 = slope(t, b), k2 = slope(t + h / 2, b + h / 2 * k1);
      const k3 = slope(t + h / 2, b + h / 2 * k2), k4 = slope(t + h, b + h * k3);
      b += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    }
    assert.ok(Math.abs(data[2 * i + 1] - b) < 0.02 * (1 + Math.abs(b)), `${data[2 * i + 1]}, not ${b}`);
  }
});

Deno.test("repeats bring a correlated token nearer to its conditional distribution, mean ρa and variance 1 − ρ²", async () => {
  const { dataBNZ, noiseBNZ, callback } = pairs(40, 100), rho = 0.9;
  const fit = async (repeats: number) => {
    const options = { steps: 40, repeats, device: "cpu", taps: ["z"], callback } as const;
    const edited = await sample(pairVelocity(rho), noiseBNZ, options);
    const known = tokens(dataBNZ, [0]).data, drawn = tokens(edited, [1]).data;
    const product = (a: ArrayLike<number>, b: ArrayLike<number>) =>
      Array.from(a, (value, i) => value * b[i]).reduce((sum, value) => sum + value, 0) / a.length;
    const slope = product(known, drawn) / product(known, known),
      rest = drawn.map((b, i) => b - slope * known[i]);
    return { slope, rest: product(rest, rest) };
  };
  const once = await fit(1), often = await fit(8), wanted = 1 - rho ** 2;
  assert.ok(Math.abs(often.slope - rho) < Math.abs(once.slope - rho) / 2, `${often.slope} and ${once.slope}`);
  assert.ok(
    Math.abs(often.rest - wanted) < Math.abs(once.rest - wanted) / 2,
    `${often.rest} and ${once.rest}`,
  );
});

Deno.test("going back and taking a step again keeps the marginals of Gaussian data at the end", async () => {
  const mean = 1.5, std = 0.5, count = 20_000;
  const velocity: Velocity = (z, t) => {
    const noise = tf.sub(1, t),
      gain = tf.div(
        tf.sub(tf.mul(t, std ** 2), noise),
        tf.add(tf.square(tf.mul(t, std)), tf.square(noise)),
      );
    return tf.add(mean, tf.mul(gain, tf.sub(z, tf.mul(t, mean))));
  };
  const noise = noiseOf(new Rng(2), Array.from({ length: 100 }, (_, i) => i), [200]);
  const options = { steps: 40, sampler: "heun", repeats: 3, device: "cpu" } as const;
  const data = (await sample(velocity, noise, { ...options, seed: 3 })).data as Float32Array;
  const average = data.reduce((a, b) => a + b, 0) / count;
  const deviation = Math.sqrt(data.reduce((a, b) => a + (b - average) ** 2, 0) / count);
  // Five standard errors of 20,000 numbers are 0.018 and 0.0125.
  assert.ok(
    Math.abs(average - mean) < 0.018 && Math.abs(deviation - std) < 0.0125,
    `${average}, ${deviation}`,
  );
  assert.deepEqual((await sample(velocity, noise, { ...options, seed: 3 })).data, data);
  assert.notDeepEqual((await sample(velocity, noise, { ...options, seed: 4 })).data, data);
});

Deno.test("latents that a callback returns are gone on from, in float32 and float64, and must have the shape", async () => {
  for (const trajectory of ["float32", "float64"] as const) {
    const { data } = await sample((z) => tf.onesLike(z), float32([3], [1]), {
      steps: 2,
      trajectory,
      device: "cpu",
      callback: ({ step }) => step === 1 ? float32([10], [1]) : undefined,
    });
    assert.deepEqual([...data], [10.5]);
  }
  await assert.rejects(
    sample((z) => z, float32([3], [1]), { steps: 1, device: "cpu", callback: () => zeros([2]) }),
    { name: "TypeError", message: "Cannot go on from a callback's latents: shape must be [1], got [2]" },
  );
});

Deno.test("boxes, latents and repeats that cannot be used are refused", async () => {
  assert.deepEqual(tokensInBox({ row: 1, column: 0, rows: 1, columns: 2 }, 2), [false, false, true, true]);
  for (
    const box of [{ ...BOX, row: 2 }, { ...BOX, rows: 0 }, { ...BOX, column: -1 }, { ...BOX, columns: 1.5 }]
  ) {
    assert.throws(() => tokensInBox(box, 3), {
      name: "RangeError",
      message: /must lie within 3 × 3 tokens, got/,
    });
  }
  await withSampler(async (sampler) => {
    const edit = (change: object) => editLatents(sampler, { ...REQUEST, dataBNZ: images(3), ...change });
    await assert.rejects(
      edit({ dataBNZ: images(2) }),
      /Cannot edit latents: shape must be \[3, 9, 3\], got \[2, 9, 3\]/,
    );
    await assert.rejects(edit({ repeats: 0 }), /repeats must be a positive integer, got 0/);
    await assert.rejects(edit({ repeats: 2, sampler: "dpmpp2m" }), /repeats must be 1 with dpmpp2m, got 2/);
  });
});

Deno.test("a row between two samples begins and ends with them and goes through the noise between", async () => {
  await withSampler(async (sampler) => {
    const request = { params: PARAMS, seed: 3, steps: 3, cfgScale: 1.5 };
    const ends = await sampler.sample({ ...request, labels: [1, 1, 1], firstIndex: 4 });
    for (const method of ["linear", "spherical"] as const) {
      const row = await sampleRow(sampler, {
        ...request,
        config: CONFIG,
        label: 1,
        from: 4,
        to: 6,
        count: 5,
        method,
      });
      assert.deepEqual(row.shape, [5, 9, 3]);
      assertClose(rows(row, 0, 1).data, rows(ends, 0, 1).data, 1e-5);
      assertClose(rows(row, 4, 5).data, rows(ends, 2, 3).data, 1e-5);
      const noise = noiseOf(new Rng(3), [4, 6], [9, 3]);
      const [from, to] = [0, 1].map((i) => ({ ...rows(noise, i, i + 1), shape: [9, 3] }));
      const middle = rows(interpolateNoise(from, to, 5, method), 2, 3);
      const alone = await sampler.sample({ ...request, labels: [1], noise: middle });
      assertClose(rows(row, 2, 3).data, alone.data, 1e-5);
    }
    await assert.rejects(
      sampleRow(sampler, { ...request, config: CONFIG, label: 3 }),
      /labels must be integers in/,
    );
  });
});

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    assert.ok(Math.abs(got[i] - wanted[i]) <= tolerance, `${i}: wanted ${wanted[i]}, got ${got[i]}`);
  }
}
