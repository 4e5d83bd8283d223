/**
 * Splits the widest part of a graph into blocks of rows, so that it runs in the processor's cache.
 *
 * In a perceptron the hidden activations [rows, width] are the largest tensors, and between the products a dozen
 * elementwise operations read and write them in main memory. All of it works row by row, so it can be done for some
 * rows at a time: narrow inputs are split, narrow results joined, and sums over rows (the gradients of weights and
 * biases) added up over the blocks. ONNX Runtime executes depth first, so one block is finished before the next.
 *
 * @module
 */
import { sizeOf } from "novae/tensor/mod.ts";
import { Graph, type GraphNode, type Value } from "./graph.ts";

/** Block size of the widest tensor; a few of these fit in the caches of a core. */
const BLOCK_BYTES = 1.5 * 2 ** 20;
/** A region with fewer operations on wide tensors is not worth the splitting. */
const LEAST_OPERATIONS = 4;
/** Splitting and joining may move this share of the bytes that stay inside. */
const LARGEST_BOUNDARY = 1 / 3;

const ELEMENTWISE = new Set(
  ("Abs Add Cast Clip Cos Div Elu Equal Erf Exp Gelu Greater GreaterOrEqual HardSigmoid LeakyRelu Less LessOrEqual Log " +
    "Max Min Mul Neg Not Pow Reciprocal Relu Selu Sigmoid Sign Sin Softplus Sqrt Sub Tanh Where").split(" "),
);

/** How an operation deals with rows: one by one, or by summing over them. */
type RowForm = "map" | "sum";

/** Rewrites a graph. Returns the values that stand for the given outputs in the new graph. */
export function blockRows(graph: Graph, outputs: readonly Value[]): { graph: Graph; outputs: Value[] } {
  const nodes = graph.nodesFor(outputs);
  const regions = findRegions(nodes, new Set(outputs));
  if (regions.length === 0) return { graph, outputs: [...outputs] };
  const rewriter = new Rewriter(graph, regions);
  for (const node of nodes) rewriter.emit(node);
  return { graph: rewriter.result, outputs: outputs.map((value) => rewriter.plain(value)) };
}

/** Operations that are done block by block together. */
interface Region {
  readonly nodes: Set<GraphNode>;
  readonly rows: number;
  /** Rows of each block. */
  readonly sizes: readonly number[];
}

const bytesOf = (value: Value): number => sizeOf(value.shape) * 4;

const isWide = (value: Value): boolean =>
  value.shape.length === 2 && !value.constant && bytesOf(value) >= 2 * BLOCK_BYTES;

/** Whether a value has one row for each row of the region; weights and constants have not. */
const hasRows = (value: Value | null, rows: number): value is Value =>
  value !== null && !value.constant && value.shape.length === 2 && value.shape[0] === rows;

/** Inputs and output that run along the rows, if the operation can be split; `wide` is one of its wide tensors. */
function rowForm(node: GraphNode, wide: Value): RowForm | undefined {
  const rows = wide.shape[0];
  const [output] = node.outputs;
  const [first, second, third] = node.inputs;
  if (ELEMENTWISE.has(node.op)) {
    const fits = node.inputs.every((input) =>
      hasRows(input, rows) || input!.shape.length < 2 || input!.shape[0] === 1
    );
    return fits && hasRows(output, rows) ? "map" : undefined;
  }
  if (node.op === "MatMul" || node.op === "FusedMatMul") {
    if (first!.shape.length !== 2 || second!.shape.length !== 2) return undefined;
    if (node.attributes.transA === 1) return hasRows(second!, rows) ? "sum" : undefined;
    if ((isTransposed(first!) || isRow(first!)) && first!.shape[1] === rows) {
      return hasRows(second!, rows) ? "sum" : undefined;
    }
    const narrow = !third && (second === wide ? false : first === wide || output === wide);
    return narrow && hasRows(first!, rows) && hasRows(output, rows) ? "map" : undefined;
  }
  if (node.op === "ReduceSum") {
    const axes = second?.constant;
    return axes?.length === 1 && Number(axes[0]) === 0 && first === wide ? "sum" : undefined;
  }
  return undefined;
}

const isTransposed = (value: Value): boolean =>
  value.producer?.op === "Transpose" && value.shape.length === 2;

/** Whether a value is a constant matrix of one row, as in sums over rows. */
const isRow = (value: Value): boolean =>
  value.constant !== undefined && value.shape.length === 2 && value.shape[0] === 1;

/** Connected operations on wide tensors, where splitting pays. */
function findRegions(nodes: readonly GraphNode[], outputs: ReadonlySet<Value>): Region[] {
  const consumers = new Map<Value, GraphNode[]>();
  for (const node of nodes) {
    for (const input of node.inputs) {
      if (!input) continue;
      // A transpose is part of the product that reads it.
      const source = isTransposed(input) ? input.producer!.inputs[0]! : input;
      if (source !== input) consumers.set(source, [...consumers.get(source) ?? [], node]);
      consumers.set(input, [...consumers.get(input) ?? [], node]);
    }
  }
  const regions: Region[] = [];
  const seen = new Set<GraphNode>();
  for (const node of nodes) {
    const wide = node.outputs.find(isWide);
    if (!wide || seen.has(node) || !rowForm(node, wide)) continue;
    const members = grow(node, wide.shape[0], consumers);
    for (const member of members) seen.add(member);
    const region = judge(members, wide.shape[0], consumers, outputs);
    if (region) regions.push(region);
  }
  return regions;
}

/** All operations reached from one over wide tensors of the same number of rows. */
function grow(start: GraphNode, rows: number, consumers: Map<Value, GraphNode[]>): Set<GraphNode> {
  const members = new Set([start]);
  const pending = [start];
  while (pending.length > 0) {
    const node = pending.pop()!;
    for (const value of wideOf(node, rows)) {
      for (const next of [...value.producer ? [value.producer] : [], ...consumers.get(value) ?? []]) {
        if (members.has(next) || !rowForm(next, value)) continue;
        members.add(next);
        pending.push(next);
      }
    }
  }
  return members;
}

function wideOf(node: GraphNode, rows: number): Value[] {
  const sources = node.inputs.map((input) =>
    input && isTransposed(input) ? input.producer!.inputs[0]! : input
  );
  return [...sources, ...node.outputs].filter((value): value is Value =>
    value !== null && isWide(value) && value.shape[0] === rows
  );
}

function judge(
  members: Set<GraphNode>,
  rows: number,
  consumers: Map<Value, GraphNode[]>,
  outputs: ReadonlySet<Value>,
): Region | undefined {
  const inside = new Set<Value>(), boundary = new Set<Value>();
  for (const node of members) {
    for (const input of node.inputs) {
      const source = input && isTransposed(input) ? input.producer!.inputs[0]! : input;
      if (hasRows(source, rows) && !(source.producer && members.has(source.producer))) boundary.add(source);
    }
    for (const output of node.outputs) {
      if (!hasRows(output, rows)) continue;
      const leaves = outputs.has(output) ||
        (consumers.get(output) ?? []).some((user) => !members.has(user) && user.op !== "Transpose");
      (leaves ? boundary : inside).add(output);
    }
  }
  const total = (values: Set<Value>) => [...values].reduce((sum, value) => sum + bytesOf(value), 0);
  if (inside.size < LEAST_OPERATIONS || total(boundary) > LARGEST_BOUNDARY * total(inside)) return undefined;
  const widest = Math.max(...[...inside].map(bytesOf));
  const count = Math.ceil(widest / BLOCK_BYTES), size = Math.ceil(rows / count);
  const sizes = Array.from({ length: Math.ceil(rows / size) }, (_, i) => Math.min(size, rows - i * size));
  return { nodes: members, rows, sizes };
}

/** Copies a graph operation by operation, the ones of regions block by block. */
class Rewriter {
  readonly result = new Graph();
  readonly #plain = new Map<Value, Value>();
  readonly #blocks = new Map<Region, Map<Value, Value[]>>();
  readonly #regionOf = new Map<GraphNode, Region>();

  constructor(source: Graph, regions: readonly Region[]) {
    for (const input of source.inputs) this.#plain.set(input, this.result.input(input.name, input));
    for (const region of regions) {
      this.#blocks.set(region, new Map());
      for (const node of region.nodes) this.#regionOf.set(node, region);
    }
  }

  /** Adds an operation to the new graph. */
  emit(node: GraphNode): void {
    const region = this.#regionOf.get(node);
    if (!region) {
      const inputs = node.inputs.map((input) => input && this.plain(input));
      const made = this.result.multiNode(
        node.op,
        inputs,
        node.outputs,
        { ...node.attributes },
        node.domain,
      );
      node.outputs.forEach((output, i) => this.#plain.set(output, made[i]));
    } else if (
      hasRows(node.outputs[0], region.rows) && rowForm(node, wideOf(node, region.rows)[0]) === "map"
    ) {
      this.#emitMap(node, region);
    } else {
      this.#emitSum(node, region);
    }
  }

  /** A value of the old graph in the new one, at its full number of rows. */
  plain(value: Value): Value {
    const known = this.#plain.get(value);
    if (known) return known;
    const made = value.constant
      ? this.result.constant(value.constant, value.shape, value.dtype)
      : this.result.node("Concat", this.#joined(value), value, { axis: 0 });
    this.#plain.set(value, made);
    return made;
  }

  #joined(value: Value): Value[] {
    return this.#blocks.get(this.#regionOf.get(value.producer!)!)!.get(value)!;
  }

  /** The blocks of a value with rows; made by the region itself or split here. */
  #blocksOf(value: Value, region: Region): Value[] {
    const blocks = this.#blocks.get(region)!;
    let parts = blocks.get(value);
    if (!parts) {
      const specs = region.sizes.map((size) => ({
        shape: [size, ...value.shape.slice(1)],
        dtype: value.dtype,
      }));
      const inputs = [this.plain(value), this.result.ints(region.sizes)];
      parts = this.result.multiNode("Split", inputs, specs, { axis: 0 });
      blocks.set(value, parts);
    }
    return parts;
  }

  #emitMap(node: GraphNode, region: Region): void {
    const [output] = node.outputs;
    const inputs = node.inputs.map((input, i) => {
      const rowed = hasRows(input, region.rows) && (i === 0 || ELEMENTWISE.has(node.op));
      return rowed ? this.#blocksOf(input, region) : this.plain(input!);
    });
    const parts = region.sizes.map((size, block) =>
      this.result.node(
        node.op,
        inputs.map((input) => Array.isArray(input) ? input[block] : input),
        { shape: [size, ...output.shape.slice(1)], dtype: output.dtype },
        { ...node.attributes },
        node.domain,
      )
    );
    this.#blocks.get(region)!.set(output, parts);
  }

  #emitSum(node: GraphNode, region: Region): void {
    const [output] = node.outputs;
    const operands = node.inputs.map((input) => this.#sumOperand(input!, region));
    const parts = region.sizes.map((_, block) =>
      this.result.node(
        node.op,
        operands.map((operand) => operand[block]),
        output,
        { ...node.attributes },
        node.domain,
      )
    );
    this.#plain.set(output, this.result.node("Sum", parts, output));
  }

  #sumOperand(input: Value, region: Region): Value[] {
    if (isTransposed(input) && input.shape[1] === region.rows) {
      return this.#blocksOf(input.producer!.inputs[0]!, region).map((part) =>
        this.result.node(
          "Transpose",
          [part],
          { shape: [part.shape[1], part.shape[0]], dtype: part.dtype },
          { perm: [1, 0] },
        )
      );
    }
    if (isRow(input) && input.shape[1] === region.rows) {
      let start = 0;
      return region.sizes.map((size) => columnsOf(this.result, input, start, start += size));
    }
    return hasRows(input, region.rows)
      ? this.#blocksOf(input, region)
      : region.sizes.map(() => this.plain(input));
  }
}

/** Some columns of a constant matrix of one row. */
function columnsOf(graph: Graph, { constant, dtype }: Value, from: number, to: number): Value {
  return graph.constant((constant as Float32Array).slice(from, to), [1, to - from], dtype);
}
