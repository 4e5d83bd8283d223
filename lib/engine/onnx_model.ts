/**
 * Writes a graph as an ONNX model (protocol buffers).
 *
 * *Source*: field numbers from https://github.com/onnx/onnx/blob/v1.17.0/onnx/onnx.proto
 *
 * @module
 */
import protobuf from "protobufjs";
import { CONTRIB_DOMAIN, type Graph, type GraphNode, type NodeAttribute, type Value } from "./graph.ts";
import type { ValueType } from "./graph.ts";

/** Protocol buffer wire types. */
const VARINT = 0, BYTES = 2, FIXED32 = 5;
/** ONNX's codes of the element types. */
export const ELEMENT_TYPE: Readonly<Record<ValueType, number>> = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
};
const ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_STRING = 3, ATTRIBUTE_INTS = 7;
/** IR 10 and operator set 21 are the newest pair whose operators ONNX Runtime 1.30 all implements on the CPU. */
export const IR_VERSION = 10, OPSET = 21;

type Writer = protobuf.Writer;

/** An output of the model: a name for outside and the value it stands for. */
export interface ModelOutput {
  readonly name: string;
  readonly value: Value;
}

/** A written model and what it consists of. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  /** Inputs that the outputs depend on. */
  readonly inputNames: ReadonlySet<string>;
  /** How often each operator occurs. */
  readonly nodeCounts: Readonly<Record<string, number>>;
}

/** Serialises the part of a graph that the outputs need. */
export function writeModel(
  graph: Graph,
  outputs: readonly ModelOutput[],
  name: string,
  metadata: Readonly<Record<string, string>> = {},
): OnnxModel {
  const nodes = graph.nodesFor(outputs.map((output) => output.value));
  const used = new Set<Value>(outputs.map((output) => output.value));
  for (const node of nodes) for (const input of node.inputs) if (input) used.add(input);
  const inputs = graph.inputs.filter((value) => used.has(value));
  const { names, copies } = nameOutputs(outputs);
  const nameOf = (value: Value | null) => value ? names.get(value) ?? value.name : "";

  const writer = protobuf.Writer.create();
  int(writer, 1, IR_VERSION);
  text(writer, 2, "novae");
  message(writer, 7, () => {
    for (const node of nodes) message(writer, 1, () => writeNode(writer, node, nameOf));
    for (const output of copies) {
      message(writer, 1, () => {
        text(writer, 1, nameOf(output.value));
        text(writer, 2, output.name);
        text(writer, 4, "Identity");
      });
    }
    text(writer, 2, name);
    for (const value of used) if (value.constant) message(writer, 5, () => writeConstant(writer, value));
    for (const value of inputs) message(writer, 11, () => writeValueInfo(writer, value.name, value));
    for (const output of outputs) {
      message(writer, 12, () => writeValueInfo(writer, output.name, output.value));
    }
  });
  for (const domain of new Set(["", ...nodes.map((node) => node.domain)])) {
    message(writer, 8, () => {
      text(writer, 1, domain);
      int(writer, 2, domain === CONTRIB_DOMAIN ? 1 : OPSET);
    });
  }
  for (const [key, value] of Object.entries(metadata)) {
    message(writer, 14, () => {
      text(writer, 1, key);
      text(writer, 2, value);
    });
  }
  const nodeCounts: Record<string, number> = {};
  for (const node of nodes) nodeCounts[node.op] = (nodeCounts[node.op] ?? 0) + 1;
  return { bytes: writer.finish(), inputNames: new Set(inputs.map((value) => value.name)), nodeCounts };
}

/** A value takes the name of the first output it stands for; inputs, constants and repetitions are copied. */
function nameOutputs(outputs: readonly ModelOutput[]): { names: Map<Value, string>; copies: ModelOutput[] } {
  const names = new Map<Value, string>();
  const copies: ModelOutput[] = [];
  for (const output of outputs) {
    if (output.value.producer && !names.has(output.value)) names.set(output.value, output.name);
    else copies.push(output);
  }
  return { names, copies };
}

function writeNode(writer: Writer, node: GraphNode, nameOf: (value: Value | null) => string): void {
  for (const input of node.inputs) text(writer, 1, nameOf(input));
  for (const output of node.outputs) text(writer, 2, nameOf(output));
  text(writer, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, () => writeAttribute(writer, name, value));
  }
  if (node.domain !== "") text(writer, 7, node.domain);
}

function writeAttribute(writer: Writer, name: string, value: NodeAttribute): void {
  text(writer, 1, name);
  if (typeof value === "number") {
    int(writer, 3, value);
    int(writer, 20, ATTRIBUTE_INT);
  } else if (typeof value === "string") {
    text(writer, 4, value);
    int(writer, 20, ATTRIBUTE_STRING);
  } else if ("float" in value) {
    writer.uint32(2 << 3 | FIXED32).float(value.float);
    int(writer, 20, ATTRIBUTE_FLOAT);
  } else {
    for (const item of value) int(writer, 8, item);
    int(writer, 20, ATTRIBUTE_INTS);
  }
}

function writeConstant(writer: Writer, value: Value): void {
  const data = value.constant!;
  for (const extent of value.shape) int(writer, 1, extent);
  int(writer, 2, ELEMENT_TYPE[value.dtype]);
  text(writer, 8, value.name);
  writer.uint32(9 << 3 | BYTES).bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

function writeValueInfo(writer: Writer, name: string, value: Value): void {
  text(writer, 1, name);
  message(writer, 2, () => {
    message(writer, 1, () => {
      int(writer, 1, ELEMENT_TYPE[value.dtype]);
      message(writer, 2, () => {
        for (const extent of value.shape) message(writer, 1, () => int(writer, 1, extent));
      });
    });
  });
}

function message(writer: Writer, field: number, body: () => void): void {
  writer.uint32(field << 3 | BYTES).fork();
  body();
  writer.ldelim();
}

function text(writer: Writer, field: number, value: string): void {
  writer.uint32(field << 3 | BYTES).string(value);
}

function int(writer: Writer, field: number, value: number): void {
  writer.uint32(field << 3 | VARINT).int64(value);
}
