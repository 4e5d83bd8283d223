/**
 * Seeded batches: which images a training step sees, as a pure function of the step.
 *
 * @module
 */
import { Rng } from "novae/tensor/mod.ts";

/** The permutations in use: a batch that crosses an epoch's end needs two, and so do two data sets in turn. */
const permutations = new Map<string, Int32Array>();
const KEPT = 4;

/**
 * The indices of a step's batch.
 *
 *     position p = step · batchSize + j,   index = permutation[epoch = ⌊p / size⌋][p mod size]
 *
 * Each epoch is a new seeded permutation that holds every index once; batches run on across epochs, so none is short.
 * As the result depends on nothing but the arguments, a training resumes by going on with the next step.
 *
 * @param step number of the training step, from 0.
 * @param batchSize images a batch, 1 or more; it may exceed the size of the data set.
 * @param datasetSize images in the data set, 1 or more.
 * @returns int32 [batchSize], each in 0 … datasetSize − 1.
 * @throws RangeError if an argument is no whole number in its range.
 */
export function batchIndices(
  seed: number,
  step: number,
  batchSize: number,
  datasetSize: number,
): Int32Array<ArrayBuffer> {
  const whole = (value: number, least: number) => Number.isSafeInteger(value) && value >= least;
  if (!Number.isSafeInteger(seed) || !whole(step, 0) || !whole(batchSize, 1) || !whole(datasetSize, 1)) {
    throw new RangeError(
      "Cannot choose a batch: seed, step ≥ 0, batch size ≥ 1 and data set size ≥ 1 must be whole numbers, " +
        `got ${seed}, ${step}, ${batchSize} and ${datasetSize}`,
    );
  }
  const indices = new Int32Array(batchSize);
  for (let j = 0; j < batchSize;) {
    const position = step * batchSize + j, place = position % datasetSize;
    const order = epochOrder(seed, Math.floor(position / datasetSize), datasetSize);
    const count = Math.min(batchSize - j, datasetSize - place);
    indices.set(order.subarray(place, place + count), j);
    j += count;
  }
  return indices;
}

function epochOrder(seed: number, epoch: number, size: number): Int32Array {
  const key = `${seed}/${epoch}/${size}`;
  let order = permutations.get(key);
  if (order === undefined) {
    order = new Rng(seed).split("epoch", epoch).permutation(size);
    const [oldest] = permutations.keys();
    if (permutations.size >= KEPT) permutations.delete(oldest);
    permutations.set(key, order);
  }
  return order;
}
