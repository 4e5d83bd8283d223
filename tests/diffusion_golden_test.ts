import assert from "node:assert/strict";
import * as tf from "@tensorflow/tfjs";
import {
  alignmentLoss,
  type Guidance,
  type GuidanceMode,
  guidanceWeights,
  pathEnds,
  pathPoint,
  pathVelocity,
  type SamplerName,
  SAMPLERS,
  samplerTimes,
  shiftTime,
  velocityCosineLoss,
  velocityLoss,
} from "novae/diffusion/mod.ts";
import { followVelocity } from "novae/diffusion/sampler.ts";
import { DeviceArithmetic, perSampleTensor, type VelocityStep } from "novae/diffusion/state_space.ts";
import { type DeviceName, jit, read } from "novae/engine/mod.ts";
import { float32, type HostTensor } from "novae/tensor/mod.ts";
import golden from "./golden/diffusion_sampling.json" with { type: "json" };

await tf.setBackend("cpu");

// tests/golden/diffusion_sampling.py computes in float64.
const RTOL = 1e-4, ATOL = 1e-5;
const [COUNT] = golden.shape, NAMES = Object.keys(SAMPLERS) as SamplerName[];
const GUIDANCE: Guidance = { cfgScale: golden.cfgScale };
const OPTIONS = { steps: golden.steps, shift: golden.shift, diffusionNorm: 0.7 };

const latents = (values: readonly number[]): HostTensor => float32(values, golden.shape);

/** The random perceptron of the generator. */
function velocity(name: "main" | "weak", z: tf.Tensor, t: tf.Tensor, labels: readonly number[]): tf.Tensor {
  const { hidden, classes, shape: [, , channels] } = golden, weights = golden[name];
  const table = tf.tensor2d(weights.label, [classes + 1, hidden]);
  const label = tf.reshape(tf.gather(table, tf.tensor1d([...labels], "int32")), [COUNT, 1, hidden]);
  const input = tf.matMul(tf.reshape(z, [-1, channels]), tf.tensor2d(weights.input, [channels, hidden]));
  const inner = tf.add(
    tf.add(tf.reshape(input, [...z.shape.slice(0, -1), hidden]), tf.mul(t, tf.tensor1d(weights.time))),
    label,
  );
  const out = tf.matMul(
    tf.reshape(tf.tanh(inner), [-1, hidden]),
    tf.tensor2d(weights.output, [hidden, channels]),
  );
  return tf.reshape(out, z.shape);
}

interface Way {
  readonly device: DeviceName;
  readonly sampler: SamplerName;
  readonly guidance: Guidance;
  readonly trajectory?: "float32" | "float64";
  readonly weak?: boolean;
}

/** Follows the guided velocity and returns the latents after each step. */
async function follow({ device, sampler, guidance, trajectory, weak = false }: Way): Promise<HostTensor[]> {
  const nulls = golden.labels.map(() => golden.classes);
  const compiled = jit(
    (z: tf.Tensor, t: tf.Tensor, duration: tf.Tensor, conditional: tf.Tensor, other: tf.Tensor) => {
      const free = weak ? velocity("weak", z, t, golden.labels) : velocity("main", z, t, nulls);
      const v = tf.add(
        tf.mul(velocity("main", z, t, golden.labels), conditional),
        tf.mul(free, other),
      );
      return { velocity: v, ahead: tf.add(z, tf.mul(v, duration)) };
    },
    { device },
  );
  const evaluate: VelocityStep = (z, t, duration, index) => {
    const { conditional, other } = guidanceWeights(guidance, { index, steps: golden.steps, t });
    const [a, b, c, d] = [t, duration, conditional, other].map((value) => perSampleTensor(value, 3));
    return compiled(z, a, b, c, d);
  };
  const arithmetic = new DeviceArithmetic({ device }), seen: HostTensor[] = [];
  const stepNoise = (index: number) => latents(golden.stepNoise[index]);
  await followVelocity(latents(golden.noise), {
    ...OPTIONS,
    sampler,
    trajectory,
    evaluate,
    arithmetic,
    stepNoise,
    taps: ["z"],
    callback: ({ taps }) => void seen.push(taps.z!),
  });
  await Promise.all([compiled.dispose(), arithmetic.dispose()]);
  return seen;
}

for (const device of ["cpu", "tfjs-cpu"] as const) {
  for (const sampler of NAMES) {
    Deno.test(`${sampler} takes the ten steps of the reference on ${device}, in float32 and float64`, async () => {
      for (const trajectory of ["float32", "float64"] as const) {
        const seen = await follow({ device, sampler, guidance: GUIDANCE, trajectory });
        assert.equal(seen.length, golden.steps);
        seen.forEach(({ data }, i) =>
          assertClose(data, golden.samplers[sampler][i], `step ${i}, ${trajectory}`)
        );
      }
    });
  }

  Deno.test(`every guidance mode gives the samples of the reference on ${device}`, async () => {
    for (const [mode, wanted] of Object.entries(golden.guidance)) {
      const guidance: Guidance = mode === "interval"
        ? { ...GUIDANCE, cfgInterval: [0.2, 0.7] }
        : { ...GUIDANCE, cfgMode: mode as GuidanceMode };
      for (const sampler of ["euler", "heun"] as const) {
        const seen = await follow({ device, sampler, guidance });
        assertClose(seen.at(-1)!.data, wanted[sampler], `${mode} with ${sampler}`);
      }
    }
    const seen = await follow({ device, sampler: "euler", guidance: GUIDANCE, weak: true });
    assertClose(seen.at(-1)!.data, golden.autoguidance, "autoguidance");
  });

  Deno.test(`path, velocity and losses are those of the reference on ${device}`, async () => {
    const compiled = jit((noise: tf.Tensor, data: tf.Tensor, t: tf.Tensor) => {
      const point = pathPoint(data, noise, t), ends = pathEnds(point, pathVelocity(data, noise), t);
      const predicted = velocity("main", point, tf.reshape(t, [-1, 1, 1]), golden.labels);
      return {
        point,
        ends,
        velocity: pathVelocity(data, noise),
        predicted,
        mse: velocityLoss(predicted, data, noise),
        cosine: velocityCosineLoss(predicted, data, noise),
        alignment: alignmentLoss(predicted, data),
      };
    }, { device });
    const { path } = golden;
    const got = await read(
      await compiled(latents(golden.noise), latents(golden.data), float32(path.t, [COUNT])),
    );
    for (const key of ["point", "velocity", "predicted"] as const) assertClose(got[key].data, path[key], key);
    for (const key of ["mse", "cosine", "alignment"] as const) assertClose(got[key].data, [path[key]], key);
    assertClose(got.ends.dataBNZ.data, golden.data, "data");
    assertClose(got.ends.noiseBNZ.data, golden.noise, "noise");
    await compiled.dispose();
  });
}

Deno.test("shifted times are those of the reference", () => {
  for (const [shift, wanted] of Object.entries(golden.shifts)) {
    wanted.forEach((value, i) => assert.ok(Math.abs(shiftTime(i / 8, Number(shift)) - value) < 1e-14));
  }
  const times = samplerTimes("euler", golden.steps, golden.shift);
  golden.times.forEach((value, i) => assert.ok(Math.abs(times[i] - value) < 1e-14));
});

function assertClose(got: ArrayLike<number>, wanted: ArrayLike<number>, what: string): void {
  assert.equal(got.length, wanted.length);
  for (let i = 0; i < got.length; i++) {
    const bound = ATOL + RTOL * Math.abs(wanted[i]);
    assert.ok(Math.abs(got[i] - wanted[i]) <= bound, `${what}, value ${i}: ${got[i]} is not ${wanted[i]}`);
  }
}
