/**
 * Comparing named tensors from a file with the parameters that settings ask for.
 *
 * @module
 */
import { WeightsError } from "./errors.ts";
import { type HostTensor, isHostTensor } from "./host_tensor.ts";
import { flattenTree, unflattenLike } from "./tree.ts";

/**
 * Builds a tree of parameters from named tensors, strictly: each must be there in its shape, and no other.
 *
 * @param what the subject of the message, e.g. `Cannot load encoder x.safetensors`.
 * @param tensors by path, e.g. `blocks.0.mlp.fc1.weight`.
 * @param like a tree of the form and shapes that are wanted.
 * @throws WeightsError that lists missing, unexpected and misshapen tensors.
 */
export function strictParams<T>(what: string, tensors: ReadonlyMap<string, HostTensor>, like: T): T {
  const wanted = new Map(
    flattenTree<HostTensor>(like, isHostTensor).map((leaf) => [leaf.path, leaf.value.shape]),
  );
  expectTensors(what, tensors, wanted);
  return unflattenLike<T>(like, isHostTensor, tensors);
}

/**
 * Checks that exactly the named float32 tensors are there, each in its shape.
 *
 * @throws WeightsError that lists missing, unexpected and misshapen tensors.
 */
export function expectTensors(
  what: string,
  tensors: ReadonlyMap<string, Pick<HostTensor, "dtype" | "shape">>,
  wanted: ReadonlyMap<string, readonly number[]>,
): void {
  const problems: string[] = [];
  const missing = [...wanted.keys()].filter((name) => !tensors.has(name));
  const unexpected = [...tensors.keys()].filter((name) => !wanted.has(name));
  if (missing.length > 0) problems.push(`missing ${someOf(missing)}`);
  if (unexpected.length > 0) problems.push(`unexpected ${someOf(unexpected)}`);
  for (const [name, shape] of wanted) {
    const got = tensors.get(name);
    if (!got || (got.dtype === "float32" && `${got.shape}` === `${shape}`)) continue;
    problems.push(`misshapen ${name}: wanted ${form("float32", shape)}, got ${form(got.dtype, got.shape)}`);
  }
  if (problems.length > 0) {
    throw new WeightsError(`${what}: weights must fit the settings: ${problems.join("; ")}`);
  }
}

/** Shape, and element type where it is not the usual one. */
function form(dtype: string, shape: readonly number[]): string {
  return `${dtype === "float32" ? "" : `${dtype} `}[${shape}]`;
}

function someOf(names: readonly string[]): string {
  if (names.length <= 4) return names.join(", ");
  return `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
