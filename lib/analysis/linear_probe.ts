/**
 * Linear probes: how well a linear classifier reads the class from fixed features.
 *
 * @module
 */
import { type Matrix, Rng } from "novae/tensor/mod.ts";
import { accuracyOf, classCount, expectLabels, type LabelledMatrix } from "./labels.ts";
import { minimize, type MinimizeOptions } from "./lbfgs.ts";
import { type Matrix64, transpose, zeroMatrix } from "./matrix.ts";
import { type ProductOptions, visitProducts } from "./products.ts";
import { type RidgeSolver, ridgeSolver } from "./ridge.ts";
import {
  type ColumnScaling,
  columnScaling,
  type StandardizedProducts,
  standardizedProducts,
} from "./standardized_products.ts";

/** A linear classifier of raw features: class `argmax(x·W + b)`. */
export interface LinearClassifier {
  /** Shape [d, classes]. */
  readonly weight: Matrix64;
  /** Shape [classes]. */
  readonly bias: Float64Array;
}

/** Settings of {@linkcode linearProbe}; the tolerance of a `softmax` fit is 1e-4 unless given. */
export interface LinearProbeOptions extends ProductOptions, MinimizeOptions {
  /**
   * What is minimised: `softmax` the cross-entropy (logistic regression), `ridge` the squared error to one-hot
   * targets, which has a closed form. Default `softmax`.
   */
  readonly loss?: "softmax" | "ridge";
  /**
   * Strength `λ` of the penalty `λ/2·‖W‖²` on weights of standardised features. Of several, the one with the best
   * accuracy on a held-out part of the training rows is taken. Default 10, 1, 0.1, 0.01 and
   * 0.001, tried in this order until two in a row do worse.
   */
  readonly l2?: number | readonly number[];
  /** Share of the training rows that choose `l2`. Default 0.2. */
  readonly validation?: number;
  /** Seed of the choice of those rows. Default 0. */
  readonly seed?: number;
}

/** How well a linear classifier tells the class. */
export interface LinearProbeResult {
  /** Top-1 accuracy on the held-out rows, in [0, 1]. */
  readonly accuracy: number;
  /** Top-1 accuracy on the training rows. */
  readonly trainAccuracy: number;
  /** The strength of the penalty that was used. */
  readonly l2: number;
  /** Accuracy of each strength on the validation rows; empty if there was no choice. */
  readonly validationAccuracies: readonly { readonly l2: number; readonly accuracy: number }[];
  /** Number of held-out rows. */
  readonly samples: number;
  /** Number of training rows. */
  readonly trainSamples: number;
  /** Number of features. */
  readonly dims: number;
  /** Steps of the last fit, 0 for a direct solution. */
  readonly iterations: number;
  /** The classifier itself, for raw features. */
  readonly classifier: LinearClassifier;
}

const DEFAULT_L2 = [10, 1, 0.1, 0.01, 0.001];

/**
 * Fits a linear classifier on standardised features and scores it on held-out rows.
 *
 * `softmax`: `min (1/n)·Σ −log softmax(x̂ᵢW + b)[yᵢ] + λ/2·‖W‖²` by L-BFGS from zero;
 * `ridge`: `min (1/2n)·Σ ‖x̂ᵢW + b − onehot(yᵢ)‖² + λ/2·‖W‖²`.
 * The bias is not penalised. Both are deterministic.
 *
 * @param train features of shape [n, d] with labels.
 * @param test features of shape [m, d] with labels.
 * @throws TypeError if numbers of columns or labels do not fit.
 * @throws RangeError if a test label does not occur in training, or a penalty is not positive.
 */
export async function linearProbe(
  train: LabelledMatrix,
  test: LabelledMatrix,
  options: LinearProbeOptions = {},
): Promise<LinearProbeResult> {
  expectLabels("fit a linear probe", train);
  expectLabels("score a linear probe", test);
  const classes = classCount(train.labels), strengths = strengthsOf(options.l2);
  if (classCount(test.labels) > classes) {
    throw new RangeError(
      `Cannot score a linear probe: labels must be below ${classes}, got ${classCount(test.labels) - 1}`,
    );
  }
  const scaling = columnScaling(train.features);
  const products = await standardizedProducts(train.features, scaling, classes, options);
  try {
    const fit = fitterOf(products, train, classes, options.loss);
    const { l2, validationAccuracies } = await chooseStrength(fit, products, train, strengths, options);
    const all = new Float64Array(train.features.rows).fill(1), best = await fit(l2, all, options);
    const classifier = rawClassifier(best, scaling, train.features.cols, classes);
    const trained = await best.logits(products);
    const predictions = await classify(classifier, test.features, options);
    return {
      accuracy: accuracyOf(predictions, test.labels),
      trainAccuracy: accuracyOf(argmaxRows(trained), train.labels),
      l2,
      validationAccuracies,
      samples: test.features.rows,
      trainSamples: train.features.rows,
      dims: train.features.cols,
      iterations: best.iterations,
      classifier,
    };
  } finally {
    await products.dispose();
  }
}

/**
 * Applies a linear classifier.
 *
 * @param features shape [n, d].
 * @returns the class of each row.
 */
export async function classify(
  classifier: LinearClassifier,
  features: Matrix,
  options: ProductOptions = {},
): Promise<Int32Array> {
  const classes = classifier.bias.length, predictions = new Int32Array(features.rows);
  await visitProducts(features, transpose(classifier.weight), (block, start, end) => {
    const logits = { data: Float64Array.from(block), rows: end - start, cols: classes };
    for (let i = 0; i < logits.data.length; i++) logits.data[i] += classifier.bias[i % classes];
    predictions.set(argmaxRows(logits), start);
  }, options);
  return predictions;
}

/** Weights of standardised features, flattened [d, classes], then the bias. */
class Fit {
  constructor(readonly point: Float64Array, readonly classes: number, readonly iterations: number) {}

  get weight(): Matrix64 {
    const count = this.point.length - this.classes;
    return { data: this.point.subarray(0, count), rows: count / this.classes, cols: this.classes };
  }

  get bias(): Float64Array {
    return this.point.subarray(this.point.length - this.classes);
  }

  async logits(products: StandardizedProducts): Promise<Matrix64> {
    const out = await products.times(this.weight), { bias } = this;
    for (let i = 0; i < out.data.length; i++) out.data[i] += bias[i % this.classes];
    return out;
  }
}

/** Fits with a penalty and a weight of 0 or 1 for each training row, from the solution of the call before. */
type Fitter = (l2: number, rowWeights: Float64Array, limits: MinimizeOptions) => Promise<Fit>;

/** How far fits go that only choose the penalty: accuracy settles long before the weights do. */
const CHOICE: MinimizeOptions = { maxIterations: 40, tolerance: 1e-3 };

function fitterOf(
  products: StandardizedProducts,
  train: LabelledMatrix,
  classes: number,
  loss: LinearProbeOptions["loss"],
): Fitter {
  if (loss === "ridge") {
    const solver: RidgeSolver = ridgeSolver(products, train.labels, classes);
    return async (l2, rowWeights, limits) => {
      const { point, iterations } = await solver(l2, rowWeights, limits);
      return new Fit(point, classes, iterations);
    };
  }
  let point: Float64Array = new Float64Array((products.cols + 1) * classes);
  return async (l2, rowWeights, limits) => {
    const objective = (at: Float64Array) => crossEntropy(at, products, train.labels, classes, rowWeights, l2);
    const minimum = await minimize(objective, point, { tolerance: 1e-4, ...limits });
    point = minimum.point;
    return new Fit(point, classes, minimum.iterations);
  };
}

/** Tries the strengths from the largest on, holding some rows out, and stops when two in a row got worse. */
async function chooseStrength(
  fit: Fitter,
  products: StandardizedProducts,
  train: LabelledMatrix,
  strengths: readonly number[],
  { validation = 0.2, seed = 0 }: LinearProbeOptions,
): Promise<{ l2: number; validationAccuracies: { l2: number; accuracy: number }[] }> {
  if (strengths.length === 1) return { l2: strengths[0], validationAccuracies: [] };
  const { rows } = train.features, held = Math.max(1, Math.round(rows * validation));
  if (held >= rows) {
    throw new RangeError(`Cannot choose l2: ${rows} rows leave none to fit beside ${held} held out`);
  }
  const out = new Rng(seed).split("validation").permutation(rows).subarray(0, held);
  const weights = new Float64Array(rows).fill(1), labels = Int32Array.from(out, (i) => train.labels[i]);
  for (const i of out) weights[i] = 0;
  const tried: { l2: number; accuracy: number }[] = [];
  let best = { l2: strengths[0], accuracy: -1 }, worse = 0;
  for (const l2 of strengths) {
    const classes = argmaxRows(await (await fit(l2, weights, CHOICE)).logits(products));
    const accuracy = accuracyOf(Int32Array.from(out, (i) => classes[i]), labels);
    tried.push({ l2, accuracy });
    if (accuracy > best.accuracy) [best, worse] = [{ l2, accuracy }, 0];
    else if (++worse === 2) break;
  }
  return { l2: best.l2, validationAccuracies: tried };
}

/** Mean cross-entropy over the weighted rows with penalty, and its gradient, at flattened weights and bias. */
async function crossEntropy(
  point: Float64Array,
  products: StandardizedProducts,
  labels: Int32Array,
  classes: number,
  rowWeights: Float64Array,
  l2: number,
): Promise<{ value: number; gradient: Float64Array }> {
  const fit = new Fit(point, classes, 0), residual = await fit.logits(products), { data } = residual;
  const total = rowWeights.reduce((a, b) => a + b, 0), gradient = new Float64Array(point.length);
  const biasStart = point.length - classes;
  let value = 0;
  for (let i = 0; i < labels.length; i++) {
    const row = data.subarray(i * classes, (i + 1) * classes), share = rowWeights[i] / total;
    const logNorm = logSumExp(row);
    value += share * (logNorm - row[labels[i]]);
    for (let c = 0; c < classes; c++) {
      row[c] = share * (Math.exp(row[c] - logNorm) - (c === labels[i] ? 1 : 0));
      gradient[biasStart + c] += row[c];
    }
  }
  gradient.set((await products.transposedTimes(residual)).data);
  for (let i = 0; i < biasStart; i++) {
    value += 0.5 * l2 * point[i] ** 2;
    gradient[i] += l2 * point[i];
  }
  return { value, gradient };
}

function logSumExp(row: Float64Array): number {
  const top = row.reduce((a, b) => Math.max(a, b));
  return top + Math.log(row.reduce((sum, v) => sum + Math.exp(v - top), 0));
}

/** Folds the standardisation into the weights. */
function rawClassifier(
  fit: Fit,
  { mean, scale }: ColumnScaling,
  dims: number,
  classes: number,
): LinearClassifier {
  const weight = zeroMatrix(dims, classes), bias = fit.bias.slice(), source = fit.weight.data;
  for (let i = 0; i < dims; i++) {
    for (let c = 0; c < classes; c++) {
      weight.data[i * classes + c] = source[i * classes + c] * scale[i];
      bias[c] -= mean[i] * weight.data[i * classes + c];
    }
  }
  return { weight, bias };
}

function argmaxRows(matrix: Matrix): Int32Array {
  const { data, rows, cols } = matrix, out = new Int32Array(rows);
  for (let i = 0; i < rows; i++) {
    for (let c = 1; c < cols; c++) if (data[i * cols + c] > data[i * cols + out[i]]) out[i] = c;
  }
  return out;
}

function strengthsOf(l2: number | readonly number[] = DEFAULT_L2): number[] {
  const strengths = (typeof l2 === "number" ? [l2] : [...l2]).sort((a, b) => b - a);
  const wrong = strengths.find((value) => !(value > 0 && Number.isFinite(value)));
  if (strengths.length === 0 || wrong !== undefined) {
    throw new RangeError(`Cannot fit a linear probe: l2 must be positive, got ${wrong ?? "none"}`);
  }
  return strengths;
}
