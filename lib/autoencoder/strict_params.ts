/**
 * Comparing named tensors with the parameters that settings ask for.
 *
 * @module
 */
import {
  flattenTree,
  type HostTensor,
  isHostTensor,
  Rng,
  unflattenLike,
  WeightsError,
} from "novae/tensor/mod.ts";
import type { AutoencoderConfig } from "./config.ts";
import { type AutoencoderParams, initAutoencoder } from "./model.ts";

/**
 * Builds parameters of named tensors, strictly.
 *
 * @param what the subject of the message.
 * @param tensors by path, e.g. `decoder.convIn.weight`.
 * @throws WeightsError that lists missing, unexpected and misshapen tensors.
 */
export function fittedParams(
  what: string,
  tensors: ReadonlyMap<string, HostTensor>,
  config: AutoencoderConfig,
): AutoencoderParams<HostTensor> {
  const like = initAutoencoder(new Rng(0), config);
  const wanted = new Map(flattenTree<HostTensor>(like, isHostTensor).map((l) => [l.path, l.value.shape]));
  const problems: string[] = [];
  const missing = [...wanted.keys()].filter((name) => !tensors.has(name));
  const unexpected = [...tensors.keys()].filter((name) => !wanted.has(name));
  if (missing.length > 0) problems.push(`missing ${someOf(missing)}`);
  if (unexpected.length > 0) problems.push(`unexpected ${someOf(unexpected)}`);
  for (const [name, shape] of wanted) {
    const got = tensors.get(name)?.shape;
    if (got && `${got}` !== `${shape}`) problems.push(`misshapen ${name}: wanted [${shape}], got [${got}]`);
  }
  if (problems.length > 0) {
    throw new WeightsError(`${what}: weights must fit the settings: ${problems.join("; ")}`);
  }
  return unflattenLike(like, isHostTensor, tensors);
}

function someOf(names: readonly string[]): string {
  return names.length <= 4
    ? names.join(", ")
    : `${names.slice(0, 4).join(", ")} and ${names.length - 4} more`;
}
