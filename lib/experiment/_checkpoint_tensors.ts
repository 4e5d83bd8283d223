/**
 * Trees of tensors as the contents of a checkpoint's files.
 *
 * @module
 */
import { flattenTree, type HostTensor, isHostTensor } from "novae/tensor/mod.ts";

/** The tensors of a tree by path. @throws TypeError for a leaf that is none. */
export function tensorsOf(tree: unknown): Map<string, HostTensor> {
  const tensors = new Map<string, HostTensor>();
  for (const { path, value } of flattenTree(tree, isHostTensor)) {
    if (value === null || value === undefined) continue;
    if (!isHostTensor(value)) {
      throw new TypeError(
        `Cannot write checkpoint: "${path}" must be a tensor in host memory, got ${typeof value}`,
      );
    }
    tensors.set(path, value);
  }
  return tensors;
}

/** How tensors differ from those that are wanted: missing, unexpected, of another shape or type. */
export function compareForm(wanted: Map<string, HostTensor>, found: Map<string, HostTensor>): string[] {
  const problems: string[] = [];
  const form = ({ dtype, shape }: HostTensor): string => `${dtype} [${shape.join(", ")}]`;
  for (const [path, tensor] of wanted) {
    const other = found.get(path);
    if (other === undefined) problems.push(`lacks "${path}"`);
    else if (form(other) !== form(tensor)) {
      problems.push(`has "${path}" as ${form(other)} where ${form(tensor)} is needed`);
    }
  }
  for (const path of found.keys()) if (!wanted.has(path)) problems.push(`has an unexpected "${path}"`);
  return problems;
}
