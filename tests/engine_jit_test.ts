/** What `jit` promises: signatures, constants, donation, devices. What it refuses is in engine_bad_input_test.ts and engine_failures_test.ts. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  DeviceTensor,
  disposeTree,
  jit,
  layerNorm,
  probeDevices,
  read,
  resolveDevice,
} from "novae/engine/mod.ts";
import { float32, type HostTensor, int32, rows, scalar } from "novae/tensor/mod.ts";
import { assertClose, eager, engineState, normal, toTf } from "./engine_harness.ts";

await tf.setBackend("cpu");

const cpu = { device: "cpu" } as const;

Deno.test("trees of tensors, numbers and strings go in and come out", async () => {
  const fn = jit((tree: { a: tf.Tensor[]; scale: number; mode: string; none: null }, shift: tf.Tensor) => ({
    sums: tree.a.map((x) => tf.add(tf.mul(x, tree.scale), shift)),
    label: tree.mode + "!",
    count: tree.a.length,
    nothing: tree.none,
  }), cpu);
  const result = await fn(
    { a: [float32([1, 2], [2]), float32([3], [1])], scale: 10, mode: "up", none: null },
    scalar(0.5),
  );
  assert.equal(result.label, "up!");
  assert.equal(result.count, 2);
  assert.equal(result.nothing, null);
  assert.ok(result.sums[0] instanceof DeviceTensor);
  const { sums } = await read(result);
  assert.deepEqual([...sums[0].data], [10.5, 20.5]);
  assert.deepEqual([...sums[1].data], [30.5]);
  await fn.dispose();
});

Deno.test("one graph is compiled for each signature and found again", async () => {
  let traces = 0;
  const fn = jit((x: tf.Tensor, options: { power: number; flag?: boolean }) => {
    traces++;
    return tf.pow(x, options.power);
  }, cpu);
  const two = float32([1, 2], [2]);
  for (const _ of [1, 2]) await fn(two, { power: 2 });
  assert.equal(traces, 1);
  assert.equal(fn.inspect().length, 1);
  await fn(float32([1, 2, 3], [3]), { power: 2 });
  await fn(two, { power: 3 });
  await fn(two, { power: 3, flag: true });
  await fn(int32([1, 2], [2]) as HostTensor, { power: 3 });
  assert.equal(traces, 5);
  const [graph] = fn.inspect();
  assert.ok(graph.bytes > 0 && graph.traceMs > 0 && graph.sessionMs > 0);
  assert.equal(graph.device, "cpu");
  await fn.dispose();
  assert.equal(fn.inspect().length, 0);
});

Deno.test("signatures tell apart -0, NaN, numbers in strings and the form of trees", async () => {
  const fn = jit((x: tf.Tensor, extra: unknown) => tf.add(x, Array.isArray(extra) ? 1 : 2), cpu);
  const x = scalar(1);
  for (const extra of [0, -0, NaN, "0", null, undefined, true, [0], [[0]], {}, { a: 0 }, { b: 0 }]) {
    await fn(x, extra);
  }
  assert.equal(fn.inspect().length, 12);
  await fn.dispose();
});

Deno.test("calls made at the same time share one compilation", async () => {
  const fn = jit((x: tf.Tensor) => tf.mul(x, 2), cpu);
  const results = await Promise.all([1, 2, 3].map(async (v) => (await read(await fn(scalar(v)))).data[0]));
  assert.deepEqual(results, [2, 4, 6]);
  assert.equal(fn.inspect().length, 1);
  await fn.dispose();
});

Deno.test("results can be fed again and an input can be returned as it is", async () => {
  const fn = jit(
    (x: tf.Tensor, y: tf.Tensor) => ({ sum: tf.add(x, y), same: x, twice: x, three: tf.scalar(3) }),
    cpu,
  );
  const first = await fn(float32([1, 2], [2]), scalar(1));
  const second = await read(await fn(first.sum, first.three));
  assert.deepEqual([...second.sum.data], [5, 6]);
  assert.deepEqual([...second.same.data], [2, 3]);
  assert.deepEqual([...second.twice.data], [2, 3]);
  await fn.dispose();
});

Deno.test("views into larger arrays are fed and read as what they show", async () => {
  const fn = jit((x: tf.Tensor, n: tf.Tensor) => tf.mul(x, tf.cast(n, "float32")), cpu);
  const x = rows(float32([1, 2, 3, 4, 5, 6], [3, 2]), 1, 2), n = rows(int32([7, 8, 9, 10], [2, 2]), 1, 2);
  assert.deepEqual([...(await read(await fn(x, n))).data], [27, 40]);
  await fn.dispose();
});

Deno.test("donated state is updated in two alternating buffers and gives the same values", async () => {
  const update = (state: { a: tf.Tensor; b: tf.Tensor }, x: tf.Tensor) => {
    const a = tf.add(state.a, x), b = tf.mul(state.b, a);
    return [{ a, b }, tf.sum(b)] as const;
  };
  const start = () => ({ a: float32([1, 2, 3], [3]), b: float32([1, 1, 1], [3]) });
  const plain = jit(update, cpu), donating = jit(update, { ...cpu, donate: [0] });
  let expected = (await plain(start(), scalar(0.1)))[0];
  let state = (await donating(start(), scalar(0.1)))[0];
  const buffers = new Set<unknown>();
  for (let i = 0; i < 6; i++) {
    const previous = state;
    const [next, total] = await donating(state, scalar(i));
    state = next;
    const [wanted, wantedTotal] = await plain(expected, scalar(i));
    expected = wanted;
    assert.deepEqual(await read(state), await read(expected));
    assert.deepEqual(await read(total), await read(wantedTotal));
    await assert.rejects(previous.a.read(), /Cannot read a tensor: the device tensor was donated to update/);
    buffers.add((state.a.storage("test").handle as { data: unknown }).data);
    buffers.add((state.b.storage("test").handle as { data: unknown }).data);
  }
  assert.ok(buffers.size <= 4, `two buffers a tensor, got ${buffers.size}`);
  await Promise.all([plain.dispose(), donating.dispose()]);
});

Deno.test("donated host tensors are not overwritten", async () => {
  const fn = jit((x: tf.Tensor) => tf.add(x, 1), { ...cpu, donate: [0] });
  const x = float32([1, 2], [2]);
  let y = await fn(x);
  for (let i = 0; i < 3; i++) y = await fn(y);
  assert.deepEqual([...x.data], [1, 2]);
  assert.deepEqual([...(await y.read()).data], [5, 6]);
  await fn.dispose();
});

Deno.test("values read earlier are not overwritten by donation", async () => {
  const fn = jit((x: tf.Tensor) => tf.add(x, 1), { ...cpu, donate: [0] });
  let y = await fn(scalar(0));
  const seen = [];
  for (let i = 0; i < 4; i++) {
    seen.push(await y.read());
    y = await fn(y);
  }
  assert.deepEqual(seen.map((t) => t.data[0]), [1, 2, 3, 4]);
  await fn.dispose();
});

Deno.test("only the graphs called last are kept", async () => {
  let traces = 0;
  const fn = jit((x: tf.Tensor) => {
    traces++;
    return tf.add(x, 1);
  }, { ...cpu, maxGraphs: 2 });
  const call = async (size: number) => (await read(await fn(float32(Array(size).fill(1), [size])))).data[0];
  for (const size of [1, 2, 1, 3, 1]) assert.equal(await call(size), 2);
  assert.equal(traces, 3);
  assert.deepEqual(fn.inspect().map((graph) => graph.signature), ["float32[3]", "float32[1]"]);
  await call(2);
  assert.equal(traces, 4);
  await Promise.all([1, 2, 3, 4].map(call));
  assert.equal(fn.inspect().length, 2);
  await fn.dispose();
  assert.throws(() => jit((x: tf.Tensor) => x, { maxGraphs: 0 }), RangeError);
});

Deno.test("constants stay scalars and equal ones are stored once", async () => {
  const fn = jit((x: tf.Tensor) => {
    const ones = tf.ones([512, 512]), zeros = tf.zeros([512, 512]);
    return tf.add(tf.mul(x, tf.mul(ones, 3)), tf.add(zeros, tf.fill([512, 512], 0.25)));
  }, cpu);
  const y = await read(await fn(scalar(2)));
  assert.deepEqual([...y.shape], [512, 512]);
  assert.ok(Array.from(y.data).every((v) => v === 6.25));
  assert.ok(fn.inspect()[0].bytes < 1000, `model of ${fn.inspect()[0].bytes} bytes`);
  const table = Float32Array.from({ length: 1000 }, (_, i) => i);
  const twice = jit((x: tf.Tensor) => tf.add(tf.mul(x, tf.tensor1d(table)), tf.tensor1d(table)), cpu);
  await twice(scalar(1));
  assert.ok(twice.inspect()[0].bytes < 4600);
  await Promise.all([fn.dispose(), twice.dispose()]);
});

Deno.test("equal operations are recorded once and unused ones not at all", async () => {
  const fn = jit((x: tf.Tensor) => {
    tf.tanh(x);
    return tf.add(tf.exp(x), tf.mul(tf.exp(x), 2));
  }, cpu);
  await fn(scalar(1));
  assert.deepEqual(fn.inspect()[0].nodeCounts, { Exp: 1, Mul: 1, Add: 1 });
  await fn.dispose();
});

Deno.test("every device is tried in a process of its own and says what it is or why it does not work", async () => {
  const missing = Deno.build.os === "darwin" ? "dml" : "coreml";
  const [works, fails, unknown] = await probeDevices(["cpu", missing, "abacus"]);
  assert.equal(works.device, "cpu");
  assert.ok(works.works);
  assert.match(works.detail, /^\d+ logical processors$/);
  assert.deepEqual([fails.works, unknown.works], [false, false]);
  assert.match(fails.detail, new RegExp(missing));
  assert.match(unknown.detail, /wanted one of auto, cpu, .*got "abacus"/);
});

Deno.test("auto names a device and a reason", async () => {
  const { device, reason } = await resolveDevice("auto");
  assert.ok(device === "cpu" || device === "webgpu");
  assert.match(reason, device === "cpu" ? /^no GPU that can be used: ./ : /^found ./);
  assert.deepEqual(await resolveDevice("cpu"), { device: "cpu", reason: "asked for" });
});

for (const device of ["tfjs-cpu", "tfjs-wasm"] as const) {
  Deno.test(`on ${device} the same function runs eagerly and the backend in use is restored`, async () => {
    await tf.setBackend("cpu");
    const fn = jit(
      (state: { x: tf.Tensor }, k: number) => [{ x: tf.mul(state.x, k) }, tf.sum(state.x)] as const,
      {
        device,
        donate: [0],
      },
    );
    let [state, total] = await fn({ x: float32([1, 2, 3], [3]) }, 2);
    const before = engineState();
    for (let i = 0; i < 3; i++) {
      const old = state;
      total.dispose();
      [state, total] = await fn(state, 2);
      await assert.rejects(old.x.read(), /donated/);
    }
    assert.deepEqual(engineState(), before);
    assert.deepEqual([...(await state.x.read()).data], [16, 32, 48]);
    assert.equal((await total.read()).data[0], 48);
    disposeTree([state, total]);
    await fn.dispose();
  });
}

Deno.test("three Adam steps of a transformer block are the same eager and compiled", async () => {
  const width = 8, tokens = 5, batch = 2;
  const params = [
    normal(width, 3 * width),
    normal(width, width),
    normal(width, 4 * width),
    normal(4 * width, width),
    normal(width),
  ];
  const x = normal(batch, tokens, width), y = normal(batch, tokens, width);
  const block = (input: tf.Tensor, [qkv, proj, up, down, gain]: tf.Tensor[]) => {
    const linear = (t: tf.Tensor, w: tf.Tensor) =>
      tf.reshape(tf.matMul(tf.reshape(t, [batch * tokens, -1]), w as tf.Tensor2D), [batch, tokens, -1]);
    const heads = tf.transpose(
      tf.reshape(linear(layerNorm(input, gain, null), qkv), [batch, tokens, 3, 2, 4]),
      [2, 0, 3, 1, 4],
    );
    const [q, k, v] = tf.unstack(heads, 0);
    const weights = tf.softmax(tf.mul(tf.matMul(q, k, false, true), 0.5));
    const mixed = tf.reshape(tf.transpose(tf.matMul(weights, v), [0, 2, 1, 3]), [batch, tokens, width]);
    const middle = tf.add(input, linear(mixed, proj));
    return tf.add(middle, linear(tf.relu(linear(layerNorm(middle, null, null), up)), down));
  };
  const step = (
    state: { p: tf.Tensor[]; m: tf.Tensor[]; v: tf.Tensor[]; t: tf.Tensor },
    input: tf.Tensor,
    target: tf.Tensor,
  ) => {
    const t = tf.add(state.t, 1);
    const { value, grads } = tf.valueAndGrads((...p: tf.Tensor[]) =>
      tf.mean(tf.square(tf.sub(block(input, p), target))) as tf.Scalar
    )(state.p);
    const m = state.m.map((old, i) => tf.add(tf.mul(old, 0.9), tf.mul(grads[i], 0.1)));
    const v = state.v.map((old, i) => tf.add(tf.mul(old, 0.999), tf.mul(tf.square(grads[i]), 0.001)));
    const p = state.p.map((old, i) => {
      const first = tf.div(m[i], tf.sub(1, tf.pow(0.9, t))),
        second = tf.div(v[i], tf.sub(1, tf.pow(0.999, t)));
      return tf.sub(old, tf.mul(0.01, tf.div(first, tf.add(tf.sqrt(second), 1e-8))));
    });
    return [{ p, m, v, t }, value] as const;
  };
  const zeros = params.map((p) => float32(new Float32Array(p.data.length), p.shape));
  const fn = jit(step, { ...cpu, donate: [0] });
  let [state, loss] = await fn({ p: params, m: zeros, v: zeros, t: scalar(0) }, x, y);
  for (let i = 0; i < 2; i++) [state, loss] = await fn(state, x, y);
  const compiledState = await read({ state, loss });
  const [wanted] = [
    await eager({
      name: "steps",
      inputs: [],
      fn: () => {
        let current = {
          p: params.map(toTf),
          m: zeros.map(toTf),
          v: zeros.map(toTf),
          t: tf.scalar(0) as tf.Tensor,
        };
        let value!: tf.Tensor;
        for (let i = 0; i < 3; i++) [current, value] = step(current, toTf(x), toTf(y));
        return [...current.p, ...current.m, ...current.v, value];
      },
    }),
  ];
  const actual = [
    ...compiledState.state.p,
    ...compiledState.state.m,
    ...compiledState.state.v,
    compiledState.loss,
  ];
  // Adam divides by the root of a small second moment, which amplifies rounding: 3 steps keep 3 digits.
  actual.forEach((tensor, i) => assertClose(tensor, wanted[i], `leaf ${i}`, 1e-3));
  await fn.dispose();
});
