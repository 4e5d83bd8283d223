/**
 * Feature matrices with a class for each row.
 *
 * @module
 */
import type { Matrix } from "novae/tensor/mod.ts";

/** Rows of features and the class of each. */
export interface LabelledMatrix {
  /** Shape [n, d]. */
  readonly features: Matrix;
  /** `n` classes, each 0 or more. */
  readonly labels: Int32Array;
}

/**
 * Checks that each row has a label.
 *
 * @param what what cannot be done otherwise, e.g. "fit a probe".
 * @throws TypeError if the numbers differ.
 * @throws RangeError if there are no rows or a label is negative.
 */
export function expectLabels(what: string, { features, labels }: LabelledMatrix): void {
  if (features.rows === 0) throw new RangeError(`Cannot ${what}: at least one row is needed, got none`);
  if (labels.length !== features.rows) {
    throw new TypeError(`Cannot ${what}: ${features.rows} rows need as many labels, got ${labels.length}`);
  }
  const negative = labels.findIndex((label) => label < 0);
  if (negative >= 0) {
    throw new RangeError(`Cannot ${what}: labels must be 0 or more, row ${negative} has ${labels[negative]}`);
  }
}

/** Share of equal entries, in [0, 1]. */
export function accuracyOf(predictions: Int32Array, labels: Int32Array): number {
  let right = 0;
  for (let i = 0; i < labels.length; i++) if (predictions[i] === labels[i]) right++;
  return right / labels.length;
}

/** Number of classes: one more than the largest label. */
export function classCount(labels: Int32Array): number {
  return labels.reduce((most, label) => Math.max(most, label), -1) + 1;
}
