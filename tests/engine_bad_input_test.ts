/** What compiled functions refuse, each with the call in the caller's code that did it. */
import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import { jit, read } from "novae/engine/mod.ts";
import { float32, type HostTensor, int32, scalar } from "novae/tensor/mod.ts";
import { engineState } from "./engine_harness.ts";

await tf.setBackend("cpu");

const cpu = { device: "cpu" } as const;
const pair = float32([1, 2], [2]);

/** A function of one tensor that is refused, what it is told, and the line of this file that it is told. */
type Refused = [fn: (x: tf.Tensor) => unknown, message: RegExp];

/** The message ends with the place of a call in this file, and tfjs's engine is as it was. */
async function assertRefused(cases: readonly Refused[]): Promise<void> {
  const before = engineState();
  for (const [fn, message] of cases) {
    const error = await failureOf(jit(fn, cpu)(pair) as Promise<unknown>);
    assert.match(error.message, message);
    assert.match(error.message, /^[^\n]* \(at (\S+, )?tests\/engine_bad_input_test\.ts:\d+:\d+\)$/);
    assert.match(error.name, /^(Type)?Error$/);
  }
  assert.deepEqual(engineState(), before);
}

async function failureOf(work: Promise<unknown>): Promise<Error> {
  try {
    await work;
  } catch (error) {
    return error as Error;
  }
  assert.fail("it must be refused");
}

Deno.test("reading a traced value is refused", async () => {
  await assertRefused([
    [
      (x) => tf.scalar(x.dataSync()[0]),
      /^Cannot compile: the function reads the value of a tensor \(dataSync, /,
    ],
    [(x) => tf.scalar((x.arraySync() as number[])[0]), /reads the value of a tensor/],
    [(x) => {
      x.print();
      return x;
    }, /reads the value of a tensor/],
    [(x) => {
      x.data();
      return x;
    }, /reads the value of a tensor/],
  ]);
});

Deno.test("branching on a traced value, or computing with it as a number, is refused", async () => {
  await assertRefused([
    [
      (x) => (x as unknown as number) > 0 ? x : tf.neg(x),
      /computes or branches with a tensor as if it were a number/,
    ],
    [(x) => tf.add(x, `${x}`.length), /use tf\.where/],
    [(x) => tf.add(x, 2 * (x as unknown as number)), /branches with a tensor/],
  ]);
  assert.ok(!(Symbol.toPrimitive in tf.Tensor.prototype));
});

Deno.test("drawing random numbers is refused", async () => {
  await assertRefused([
    [(x) => tf.add(x, tf.randomNormal([2])), /^Cannot compile: the function draws random numbers/],
    [(x) => tf.add(x, tf.randomUniform([2])), /draws random numbers/],
    [(x) => tf.dropout(x, 0.5), /draws random numbers/],
    [(x) => tf.mul(x, Math.random()), /pass them in as an argument/],
  ]);
  assert.ok(Math.random() < 1);
});

Deno.test("a tensor that was made outside is refused, whether it is used, read or returned", async () => {
  const outside = tf.tensor1d([1, 2]);
  await assertRefused([
    [
      (x) => tf.add(x, outside),
      /^Cannot compile: the function uses a tensor of shape \[2\] made outside of it; pass/,
    ],
    [(x) => tf.add(x, outside.dataSync()[0]), /made outside of it; pass it in as an argument/],
    [
      () => outside,
      /the function returns a tensor of shape \[2\] made outside of it; pass it in as an argument/,
    ],
    [(x) => ({ x, loss: [outside] }), /the function returns at loss\.0 a tensor of shape \[2\] made outside/],
  ]);
  assert.deepEqual([...outside.dataSync()], [1, 2]);
  outside.dispose();
});

Deno.test("keeping a tensor for after the trace is refused", async () => {
  await assertRefused([
    [(x) => {
      tf.keep(tf.exp(x));
      return x;
    }, /^Cannot compile: the function keeps a tensor \(tf\.keep\); return it instead/],
    [(x) => tf.keep(tf.exp(x)), /keeps a tensor/],
    [
      (x) => tf.variable(x),
      /^Cannot compile: the function makes a tf\.variable; pass the tensor in as an argument/,
    ],
  ]);
  const released = jit((x: tf.Tensor) => {
    const kept = tf.keep(tf.exp(x));
    const y = tf.mul(kept, 2);
    kept.dispose();
    return y;
  }, cpu);
  assert.ok(Math.abs((await read(await released(scalar(0)))).data[0] - 2) < 1e-6);
  await released.dispose();
});

Deno.test("a traced tensor that leaked out of its trace can be neither read nor used in another", async () => {
  let leaked!: tf.Tensor;
  const leaks = jit((x: tf.Tensor) => leaked = tf.exp(x), cpu);
  await leaks(pair);
  assert.throws(() => leaked.dataSync(), /disposed/);
  await assertRefused([[(x) => tf.add(x, leaked), /tensor .*made outside of it; pass it in as an argument/]]);
  await leaks.dispose();
});

Deno.test("shapes and element types that do not go together are refused by the operation", async () => {
  const n = (x: tf.Tensor) => tf.cast(x, "int32"), t = (x: tf.Tensor) => tf.cast(x, "bool");
  const row = (x: tf.Tensor) => tf.reshape(x, [1, 2]);
  await assertRefused([
    [(x) => tf.add(x, tf.ones([5])), /with shapes 2 and 5/],
    [
      (x) => tf.matMul(row(x), row(x)),
      /kernel "BatchMatMul": inner extents of \[1, 2\] and \[1, 2\] must be equal, got 2 and 1/,
    ],
    [(x) => tf.reshape(x, [3]), /Size\(2\) must match the product of shape 3/],
    [
      (x) => tf.concat([row(x), tf.ones([1, 3])], 0),
      /kernel "Concat": tensors must be of one form, got float32\[\*,2\] and float32\[\*,3\]/,
    ],
    [(x) => tf.concat([x, n(x)]), /kernel "Concat": .* got float32\[\*\] and int32\[\*\]/],
    [
      (x) => tf.stack([x, tf.ones([3])]),
      /kernel "Pack": tensors must be of one form, got float32\[2\] and float32\[3\]/,
    ],
    [(x) => tf.slice(x, [1], [2]), /begin\[0\] \+ size\[0\] \(3\) would overflow input.shape\[0\] \(2\)/],
    [
      (x) => tf.einsum("i,i->", x, tf.ones([3])),
      /kernel "Einsum": operand 1 must fit "i,i->", got shape \[3\]/,
    ],
    [(x) => tf.einsum("ij->i", x), /kernel "Einsum": operand 0 must fit "ij->i", got shape \[2\]/],
    [
      (x) => tf.gatherND(x, tf.zeros([3, 2], "int32")),
      /kernel "GatherNd": indices must have at most 1 numbers, got 2/,
    ],
    [
      (x) => tf.conv2d(tf.reshape(x, [1, 1, 1, 2]) as tf.Tensor4D, tf.ones([1, 1, 3, 1]), 1, "same"),
      /depth of input \(2\) must match input depth for filter 3/,
    ],
    [(x) => tf.sum(x, 1), /axis/],
    [
      (x) => tf.where(t(x), x, n(x)),
      /kernel "Select": both choices must be of one type, got float32 and int32; cast one/,
    ],
    [(x) => tf.add(t(x), t(x)), /kernel "Add": operands must be float32 or int32, got bool; cast them/],
    [(x) => tf.exp(n(x)), /kernel "Exp": x must be float32, got int32; cast it/],
    [(x) => tf.sqrt(n(x)), /'x' passed to 'sqrt' must be float32 tensor, but got int32 tensor/],
  ]);
});

Deno.test("another shape or element type is another graph, and one that is refused leaves the others", async () => {
  const fn = jit((x: tf.Tensor, w: tf.Tensor) => tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), cpu);
  const x = float32([1, 2], [1, 2]), w = float32([1, 2, 3, 4, 5, 6], [2, 3]);
  assert.deepEqual([...(await read(await fn(x, w))).data], [9, 12, 15]);
  await assert.rejects(fn(float32([1, 2, 3], [1, 3]), w), /inner extents .* must be equal, got 3 and 2/);
  await assert.rejects(
    fn(int32([1, 2], [2]) as HostTensor, w),
    /\(at tests\/engine_bad_input_test\.ts:\d+:\d+\)$/,
  );
  assert.deepEqual([...(await read(await fn(x, w))).data], [9, 12, 15]);
  assert.equal(fn.inspect().length, 1);
  await fn.dispose();
});

Deno.test("a tensor whose values do not fit its shape or element type is refused by its place", async () => {
  const fn = jit((batch: { x: tf.Tensor }) => batch.x, { ...cpu, name: "step" });
  const call = (x: unknown) => failureOf(fn({ x: x as HostTensor }));
  assert.equal(
    (await call({ dtype: "float32", shape: [3], data: new Float32Array(2) })).message,
    "Cannot call step: argument 0.x must hold 3 values of float32 in a Float32Array, got 2 in a Float32Array",
  );
  assert.match(
    (await call({ dtype: "float32", shape: [2], data: new Int32Array(2) })).message,
    /must hold 2 values of float32 in a Float32Array, got 2 in a Int32Array/,
  );
  assert.match(
    (await call({ dtype: "float64", shape: [2], data: new Float64Array(2) })).message,
    /must hold 2 values of float64 in a typed array, got 2 in a Float64Array/,
  );
});

Deno.test("a tree with a hole is refused by its place, going in and coming out", async () => {
  const fn = jit((xs: tf.Tensor[]) => xs[0], { ...cpu, name: "step" });
  const holed = [scalar(1), scalar(2), scalar(3)];
  delete holed[1];
  await assert.rejects(
    fn(holed),
    /^TypeError: Cannot call step: argument 0 must have no holes, got one at index 1$/,
  );
  const gives = jit((x: tf.Tensor) => {
    const ys = [x, x, x];
    delete ys[1];
    return { ys };
  }, { ...cpu, name: "step" });
  await assert.rejects(gives(pair), /Cannot compile step: ys must have no holes, got one at index 1/);
});

Deno.test("arguments and results that are no trees of tensors are refused by path", async () => {
  const fn = jit((x: unknown) => (x as { a: tf.Tensor[] }).a[0], { ...cpu, name: "step" });
  const t = tf.scalar(1);
  await assert.rejects(fn({ a: [t] }), /Cannot call step: argument 0.a.0 must be a tensor.*got tf.Tensor/);
  await assert.rejects(fn({ a: () => 1 }), /argument 0.a must be .*got function/);
  t.dispose();
  await assertRefused([
    [async (x) => await x, /must return tensors.*got a promise \(make it synchronous\)/],
    [(x) => ({ x, when: new Date() }), /must return tensors.*at when/],
  ]);
});

Deno.test("an operation without an ONNX form is refused by name and by the call", async () => {
  function lookUp(x: tf.Tensor): tf.Tensor {
    return tf.unique(x).values;
  }
  await assertRefused([
    [
      (x) => tf.complex(x, x),
      /^Cannot compile kernel "Complex": there is no ONNX form of it here; write it with/,
    ],
    [lookUp, /^Cannot compile kernel "Unique": .*\(at lookUp, tests\/engine_bad_input_test\.ts:/],
    [() => tf.tensor(["a"]), /^Cannot compile: tensors must be float32, int32 or bool, got string/],
  ]);
});

Deno.test("an exception anywhere in a trace leaves the tfjs engine as it was", async () => {
  const before = engineState();
  const inForward = (x: tf.Tensor) => {
    tf.keep(tf.add(x, 1));
    throw new Error("forward");
  };
  const inGradient = (x: tf.Tensor) =>
    tf.grad((y) => {
      const op = tf.customGrad((...args) => {
        const [z, save] = args as unknown as [tf.Tensor, tf.GradSaveFunc];
        save([z]);
        return {
          value: tf.sum(z),
          gradFunc: () => {
            throw new Error("backward");
          },
        };
      });
      return op(tf.mul(y, y));
    })(x);
  const inTidy = (x: tf.Tensor) => tf.tidy(() => tf.add(x, tf.ones([7, 7])));
  await assert.rejects(jit(inForward, cpu)(scalar(1)) as Promise<unknown>, /forward/);
  assert.deepEqual(engineState(), before);
  await assert.rejects(jit(inGradient, cpu)(scalar(1)), /backward/);
  assert.deepEqual(engineState(), before);
  await assert.rejects(jit(inTidy, cpu)(float32([1, 2], [2])), /shapes/);
  assert.deepEqual(engineState(), before);
  const fine = jit((x: tf.Tensor) => tf.grad((y) => tf.sum(tf.square(y)))(x), cpu);
  await fine(scalar(3));
  assert.deepEqual(engineState(), before);
  await fine.dispose();
});

Deno.test("a failed compilation is tried again on the next call", async () => {
  let broken = true;
  const fn = jit((x: tf.Tensor) => {
    if (broken) throw new Error("not yet");
    return tf.add(x, 1);
  }, cpu);
  await assert.rejects(fn(scalar(1)), /not yet/);
  broken = false;
  assert.equal((await read(await fn(scalar(1)))).data[0], 2);
  await fn.dispose();
});
