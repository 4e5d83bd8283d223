/**
 * Guidance: a class-conditional velocity is pushed away from one that knows less, the unconditional velocity or that
 * of a weaker model. What differs from method to method is the weight, by step and time.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { PerSample } from "./state_space.ts";

/** A velocity that depends on a label, evaluated for a whole batch. */
export type LabelledVelocity = (zBNZ: tf.Tensor, labelsB: tf.Tensor) => tf.Tensor;

/**
 * When guidance of weight w acts, in SVG's words, with step i of S and time t:
 *
 * - `constant`: always;
 * - `late`: where `(i + 1)/S > 0.5`; `early`: where `(i + 1)/S < 0.5`;
 * - `early-x`: where `t > x`, so not in the first part, whatever its name says;
 * - `linear`: always, with weight `1 + (w − 1)(i + 1)/S`;
 * - `cfg_star-k-r`: always, but in the first k steps the velocity is `−r` times the unconditional one; with r = 0 the
 *   noise stays as it is there, the zero-init of CFG-Zero* (Fan et al., arXiv 2503.18886).
 */
export type GuidanceMode =
  | "constant"
  | "late"
  | "early"
  | `early-${number}`
  | "linear"
  | `cfg_star-${number}-${number}`;

/** How samples are guided. */
export interface Guidance {
  /** Weight w of the conditional velocity; 1 is the conditional model itself. Default 1. */
  readonly cfgScale?: number;
  /** Default `constant`. */
  readonly cfgMode?: GuidanceMode;
  /** Times [from, to] in which guidance acts; outside the conditional model is used. Default [0, 1]. */
  readonly cfgInterval?: readonly [from: number, to: number];
}

/** Where on its way a sampler evaluates a velocity. */
export interface GuidancePoint {
  /** Step i, from 0. */
  readonly index: number;
  /** Steps S in all. */
  readonly steps: number;
  /** Time of the evaluation, or one for each sample. */
  readonly t: PerSample;
}

/** Weights of the two velocities; of a conditional model alone they are 1 and 0. */
export interface GuidanceWeights {
  /** Weight of the conditional velocity. */
  readonly conditional: PerSample;
  /** Weight of the unconditional velocity, or the weaker model's. */
  readonly other: PerSample;
}

/**
 * The weights of an evaluation.
 *
 * `(w, 1 − w)` where guidance acts, `(1, 0)` elsewhere, and `(0, −r)` in the first k steps of `cfg_star-k-r`.
 *
 * *Source*: `RectifiedFlow.sample` of shiml20/SVG for the modes (`early` without a time from its commit bddc6e3);
 * Kynkäänniemi et al., arXiv 2404.07724, for the interval.
 *
 * @throws RangeError as {@linkcode checkGuidance} does.
 */
export function guidanceWeights(guidance: Guidance, point: GuidancePoint): GuidanceWeights {
  checkGuidance(guidance);
  const { t } = point;
  if (typeof t === "number") return weightsAt(guidance, point, t);
  const conditional = new Float64Array(t.length), other = new Float64Array(t.length);
  for (let i = 0; i < t.length; i++) {
    const weights = weightsAt(guidance, point, t[i]);
    conditional[i] = weights.conditional;
    other[i] = weights.other;
  }
  return { conditional, other };
}

/** Whether weights ask for the conditional velocity alone, so that one forward pass is enough. */
export function isUnguided({ conditional, other }: GuidanceWeights): boolean {
  const all = (values: PerSample, wanted: number) =>
    typeof values === "number" ? values === wanted : values.every((value) => value === wanted);
  return all(conditional, 1) && all(other, 0);
}

/** Whether guidance acts at any time at all. */
export function guides({ cfgScale = 1, cfgMode = "constant" }: Guidance): boolean {
  return cfgScale !== 1 || cfgMode.startsWith("cfg_star");
}

/**
 * Checks what can be checked before anything is computed.
 *
 * @throws RangeError if the scale is not a number, the mode has another form or the interval is not one within [0, 1].
 */
export function checkGuidance({ cfgScale = 1, cfgMode = "constant", cfgInterval }: Guidance): void {
  const fail = (what: string, got: unknown) => new RangeError(`Cannot guide samples: ${what}, got ${got}`);
  if (!Number.isFinite(cfgScale)) throw fail("cfgScale must be a finite number", cfgScale);
  const [from, to] = cfgInterval ?? [0, 1];
  if (!(from >= 0 && from <= to && to <= 1)) {
    throw fail("interval must lie in order within [0, 1]", `[${from}, ${to}]`);
  }
  if (PLAIN_MODES.has(cfgMode)) return;
  const early = EARLY.exec(cfgMode), star = CFG_STAR.exec(cfgMode);
  if (early !== null && Number(early[1]) <= 1 || star !== null) return;
  throw fail(
    "cfgMode must be constant, late, early, early-<time in [0, 1]>, linear or cfg_star-<steps>-<ratio>",
    cfgMode,
  );
}

const PLAIN_MODES: ReadonlySet<string> = new Set(["constant", "late", "early", "linear"]);
const EARLY = /^early-(\d+(?:\.\d+)?)$/, CFG_STAR = /^cfg_star-(\d+)-(\d+(?:\.\d+)?)$/;

function weightsAt(
  { cfgScale = 1, cfgMode = "constant", cfgInterval: [from, to] = [0, 1] }: Guidance,
  { index, steps }: GuidancePoint,
  t: number,
): { conditional: number; other: number } {
  if (t < from || t > to) return { conditional: 1, other: 0 };
  const star = CFG_STAR.exec(cfgMode);
  if (star !== null && index < Number(star[1])) return { conditional: 0, other: -Number(star[2]) };
  const w = scaleAt(cfgMode, cfgScale, (index + 1) / steps, t);
  return { conditional: w, other: 1 - w };
}

function scaleAt(mode: GuidanceMode, scale: number, share: number, t: number): number {
  if (mode === "late") return share > 0.5 ? scale : 1;
  if (mode === "early") return share < 0.5 ? scale : 1;
  if (mode === "linear") return 1 + (scale - 1) * share;
  const early = EARLY.exec(mode);
  return early === null || t > Number(early[1]) ? scale : 1;
}

/**
 * The guided velocity `v_u + w (v_c − v_u)`.
 *
 * *Source*: Ho and Salimans, arXiv 2207.12598, with w as SVG's `cfg` (w = 1 means no guidance).
 */
export function guide(
  conditional: tf.Tensor,
  unconditional: tf.Tensor,
  cfgScale: number | tf.Scalar,
): tf.Tensor {
  return tf.add(unconditional, tf.mul(tf.sub(conditional, unconditional), cfgScale));
}

/**
 * The conditional and the unconditional velocity of a batch in one forward pass.
 *
 * @param velocity evaluated once, on 2·B samples.
 * @param zBNZ latents [B, N, Z].
 * @param labelsB int32 labels [B].
 * @param nullLabel the label that stands for "no class".
 */
export function bothVelocities(
  velocity: LabelledVelocity,
  zBNZ: tf.Tensor,
  labelsB: tf.Tensor,
  nullLabel: number,
): [conditional: tf.Tensor, unconditional: tf.Tensor] {
  const nullsB = tf.fill(labelsB.shape, nullLabel, "int32");
  const both = velocity(tf.concat([zBNZ, zBNZ], 0), tf.concat([labelsB, nullsB], 0));
  return tf.split(both, 2, 0) as [tf.Tensor, tf.Tensor];
}

/**
 * The guided velocity of a batch: {@linkcode guide} of {@linkcode bothVelocities}.
 *
 * @param cfgScale weight w.
 */
export function guidedVelocity(
  velocity: LabelledVelocity,
  zBNZ: tf.Tensor,
  labelsB: tf.Tensor,
  nullLabel: number,
  cfgScale: number | tf.Scalar,
): tf.Tensor {
  return guide(...bothVelocities(velocity, zBNZ, labelsB, nullLabel), cfgScale);
}
