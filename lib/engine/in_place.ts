/**
 * Finds results that may be written over the donated inputs that they replace, so that a training state exists once
 * in memory and not twice.
 *
 * @module
 */
import { sameShape } from "./recorder.ts";
import type { GraphNode, Value } from "./graph.ts";
import type { ModelOutput } from "./onnx_model.ts";

/** Operations that ONNX Runtime may move behind others or do without, so that who reads them reads their input. */
const VIEWS = new Set([
  "Cast",
  "Einsum",
  "Expand",
  "Identity",
  "Reshape",
  "Split",
  "Squeeze",
  "Transpose",
  "Unsqueeze",
]);

/** They read an element before they write the same, so that the memory of an operand may take the result. */
const ELEMENT_BY_ELEMENT = new Set(["Add", "Div", "Mul", "Sub"]);

/**
 * Pairs outputs with donated inputs of the same type whose memory they may take.
 *
 * An input is only given to an output that cannot be computed before everything else that reads the input, whatever
 * order ONNX Runtime chooses: all readers are among the operations that the output depends on. A training step with
 * clipped gradients has such an order, since each update needs the norm and the norm the whole backward pass. Of
 * several inputs the nearest is taken: a running mean takes the mean before and not the parameter.
 *
 * @param donated names of the inputs whose memory may be written.
 * @returns name of the input by name of the output.
 */
export function outputsInPlace(
  outputs: readonly ModelOutput[],
  donated: ReadonlySet<string>,
): Map<string, string> {
  const readers = readersOf(operationsInOrder(outputs.map(({ value }) => value)));
  const results = new Set(outputs.map(({ value }) => value));
  const taken = new Set<Value>(), pairs = new Map<string, string>();
  for (const { name, value } of outputs) {
    if (!value.producer || taken.has(value)) continue; // the same value twice needs memory twice
    const { operations, inputs } = ancestorsOf(value.producer);
    const input = inputs.find((candidate) =>
      donated.has(candidate.name) && !taken.has(candidate) && !results.has(candidate) &&
      candidate.dtype === value.dtype && sameShape(candidate.shape, value.shape) &&
      readers.get(candidate)!.every((reader) => readsInTime(reader, candidate, value, operations, results))
    );
    taken.add(value);
    if (!input) continue;
    taken.add(input);
    pairs.set(name, input.name);
  }
  return pairs;
}

/** Whether an operation that reads `input` is done, or reads each element in time, when `output` is written over it. */
function readsInTime(
  reader: GraphNode,
  input: Value,
  output: Value,
  before: ReadonlySet<GraphNode>,
  outputs: ReadonlySet<Value>,
): boolean {
  if (reader === output.producer) {
    return ELEMENT_BY_ELEMENT.has(reader.op) &&
      reader.inputs.every((operand) => operand === input || !isViewOf(operand, input));
  }
  return before.has(reader) && !(VIEWS.has(reader.op) && reader.outputs.some((view) => outputs.has(view)));
}

function isViewOf(value: Value | null, input: Value): boolean {
  let source = value;
  while (source?.producer && VIEWS.has(source.producer.op)) source = source.producer.inputs[0];
  return source === input;
}

/** The operations that read each value, directly or through views. */
function readersOf(order: readonly GraphNode[]): Map<Value, GraphNode[]> {
  const readers = new Map<Value, GraphNode[]>();
  // Last first: the readers of a view are known when the view's own operation comes.
  for (const node of order.toReversed()) {
    const behind = VIEWS.has(node.op) ? node.outputs.flatMap((view) => readers.get(view) ?? []) : [];
    for (const input of node.inputs) {
      if (!input || input.constant) continue;
      readers.set(input, [...readers.get(input) ?? [], node, ...behind]);
    }
  }
  return readers;
}

/** What an operation needs: operations, and inputs of the graph from the nearest to the farthest. */
function ancestorsOf(node: GraphNode): { operations: Set<GraphNode>; inputs: Value[] } {
  const operations = new Set<GraphNode>(), inputs = new Set<Value>();
  let layer = [node];
  while (layer.length > 0) {
    const next: GraphNode[] = [];
    for (const value of layer.flatMap((one) => one.inputs)) {
      if (!value || value.constant) continue;
      if (!value.producer) inputs.add(value);
      else if (!operations.has(value.producer)) {
        operations.add(value.producer);
        next.push(value.producer);
      }
    }
    layer = next;
  }
  return { operations, inputs: [...inputs] };
}

/** All operations that the values need, each behind those it needs itself. */
function operationsInOrder(values: readonly Value[]): GraphNode[] {
  const order: GraphNode[] = [], entered = new Set<GraphNode>();
  const pending: { node: GraphNode; next: number }[] = [];
  const enter = (node: GraphNode | undefined) => {
    if (!node || entered.has(node)) return;
    entered.add(node);
    pending.push({ node, next: 0 });
  };
  for (const value of values) {
    enter(value.producer);
    while (pending.length > 0) {
      const top = pending.at(-1)!;
      if (top.next < top.node.inputs.length) enter(top.node.inputs[top.next++]?.producer);
      else order.push(pending.pop()!.node);
    }
  }
  return order;
}
