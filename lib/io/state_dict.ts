/**
 * Named tensors out of the nested content of a checkpoint.
 *
 * @module
 */
import { oneLine, sizeOf, WeightsError } from "novae/tensor/mod.ts";
import type { LazyTensor } from "./lazy_tensor.ts";
import { MemoryBudget } from "./memory_limit.ts";
import { NumpyArray } from "./pickle_numpy.ts";
import { PickleGlobal, PickleObject, type PickleValue, UnreadableTensor } from "./pickle_values.ts";
import { TorchTensor } from "./pytorch_tensor.ts";

/** More than any model has; bounds what a hostile file of shared lists within lists can cost. */
const DEPTH_LIMIT = 256, VISIT_LIMIT = 1 << 22;

type Leaf = readonly [name: string, tensor: LazyTensor | UnreadableTensor];

/**
 * Lists the tensors of a checkpoint by name: keys, attributes and indices from the root on, joined by dots. Modules
 * that were saved whole give the names of their `state_dict()`. What is no tensor is left out.
 *
 * @param checkpoint its path, for messages, and its content.
 * @param prefix part of the content, e.g. `state_dict`, `ema`, `teacher` or `model.backbone`: only names that begin
 * with it, and a dot, which are taken off. All tensors of the file if omitted.
 * @throws WeightsError if there are no such tensors, one of them cannot be read, two have the same name, or they need
 * more memory than the checkpoint grants: many views of one storage.
 */
export function stateDict(
  checkpoint: { readonly path: string; readonly tree: PickleValue; readonly memoryBytes: number },
  prefix = "",
): Map<string, LazyTensor> {
  const { path } = checkpoint, leaves = [...leavesOf(checkpoint)];
  const tensors = new Map<string, LazyTensor>();
  for (const [whole, tensor] of leaves) {
    if (prefix !== "" && !whole.startsWith(`${prefix}.`)) continue;
    const name = prefix === "" ? whole : whole.slice(prefix.length + 1);
    if (tensor instanceof UnreadableTensor) {
      throw new WeightsError(
        `Cannot read weights ${path}: "${oneLine(whole)}" must be a plain tensor, but ${
          oneLine(tensor.reason)
        }`,
      );
    }
    if (tensors.has(name)) {
      throw new WeightsError(`Cannot read weights ${path}: there are two tensors "${oneLine(whole)}"`);
    }
    tensors.set(name, tensor instanceof TorchTensor ? tensor.named(whole) : tensor);
  }
  if (tensors.size === 0) throw noTensors(path, prefix, leaves.map(([name]) => name));
  return tensors;
}

function noTensors(path: string, prefix: string, names: readonly string[]): WeightsError {
  if (names.length === 0) return new WeightsError(`Cannot read weights ${path}: there are no tensors in it`);
  const nests = [...new Set(names.map((name) => name.split(".")[0]))];
  const more = nests.length > 8 ? `, … (${nests.length} in all)` : "";
  return new WeightsError(
    `Cannot read weights ${path}: names must begin with "${prefix}.", got ${
      oneLine(nests.slice(0, 8).join(", "))
    }${more}`,
  );
}

/** What the place of a tensor in a list of names and tensors needs, beside its name. */
const LEAF_BYTES = 200;

function* leavesOf({ path, tree, memoryBytes }: Parameters<typeof stateDict>[0]): Generator<Leaf> {
  const above = new Set<PickleValue>();
  const memory = new MemoryBudget(
    memoryBytes,
    (limit) =>
      new WeightsError(
        `Cannot read weights ${path}: its tensors must need at most ${limit} bytes in memory, got more`,
      ),
  );
  let visits = 0;
  function leaf(name: string, tensor: LazyTensor | UnreadableTensor): Leaf {
    memory.take(LEAF_BYTES + 2 * name.length + hostBytes(tensor));
    return [name, tensor];
  }
  function* walk(name: string, value: PickleValue): Generator<Leaf> {
    if (isTensor(value)) return yield leaf(name, value);
    if (value instanceof NumpyArray) return yield leaf(name, value.content);
    if (typeof value !== "object" || value === null || above.has(value)) return; // objects may know their owners
    if (++visits > VISIT_LIMIT || above.size > DEPTH_LIMIT) {
      throw new WeightsError(`Cannot read weights ${path}: its content is nested too deeply`);
    }
    above.add(value);
    for (const [key, child] of childrenOf(value)) yield* walk(name === "" ? key : `${name}.${key}`, child);
    above.delete(value);
  }
  yield* walk("", tree);
}

/** Bytes of a tensor in memory. */
function hostBytes(tensor: LazyTensor | UnreadableTensor): number {
  if (tensor instanceof UnreadableTensor) return 0;
  return sizeOf(tensor.shape) * (tensor.dtype === "bool" ? 1 : 4);
}

function isTensor(value: PickleValue): value is LazyTensor | UnreadableTensor {
  return value instanceof UnreadableTensor ||
    (typeof value === "object" && value !== null && "read" in value);
}

function* childrenOf(value: PickleValue): Generator<[string, PickleValue]> {
  if (value instanceof Map) { for (const [key, child] of value) yield [keyName(key), child]; }
  else if (Array.isArray(value)) yield* value.map((child, i): [string, PickleValue] => [String(i), child]);
  else if (value instanceof PickleObject) {
    if (value.attributes.get("_modules") instanceof Map) return yield* moduleChildren(value);
    yield* childrenOf(value.items);
    yield* childrenOf(value.elements);
    yield* childrenOf(value.attributes);
  }
}

/** The name of a key; of a tuple its numbers and texts, without following what they hold. */
function keyName(key: PickleValue): string {
  if (Array.isArray(key)) {
    return `(${key.slice(0, 8).map((part) => Array.isArray(part) ? "…" : keyName(part)).join(", ")})`;
  }
  if (key instanceof Map || key instanceof Set || key instanceof Uint8Array) return "…";
  return key instanceof PickleGlobal || typeof key !== "object" || key === null ? String(key) : "…";
}

/** What `state_dict()` of a module lists: parameters, buffers that are meant to be saved, and the modules within. */
function* moduleChildren({ attributes }: PickleObject): Generator<[string, PickleValue]> {
  const passing = attributes.get("_non_persistent_buffers_set");
  for (const part of ["_parameters", "_buffers", "_modules"]) {
    for (const [name, child] of childrenOf(attributes.get(part) ?? null)) {
      if (part !== "_buffers" || !(passing instanceof Set && passing.has(name))) yield [name, child];
    }
  }
}
