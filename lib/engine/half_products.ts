/**
 * Half precision for the operations that gain from it: matrix products and convolutions take 16-bit operands and
 * give 16-bit results, everything between them stays in 32 bits.
 *
 * @module
 */
import { Graph, type GraphNode, type Value } from "./graph.ts";
import { ELEMENT_TYPE } from "./onnx_model.ts";

const PRODUCTS = new Set(["MatMul", "Conv", "ConvTranspose"]);

/** Rewrites a graph. Returns the values that stand for the given outputs in the new graph. */
export function halveProducts(graph: Graph, outputs: readonly Value[]): { graph: Graph; outputs: Value[] } {
  const result = new Graph(), known = new Map<Value, Value>();
  for (const input of graph.inputs) known.set(input, result.input(input.name, input));
  const find = (value: Value): Value => {
    let found = known.get(value);
    if (!found) {
      found = result.constant(value.constant!, value.shape, value.dtype);
      known.set(value, found);
    }
    return found;
  };
  const cast = (value: Value, dtype: "float32" | "float16") =>
    result.node("Cast", [value], { shape: value.shape, dtype }, { to: ELEMENT_TYPE[dtype] });
  const copy = (node: GraphNode): Value[] => {
    const inputs = node.inputs.map((input) => input && find(input));
    if (!PRODUCTS.has(node.op) || node.outputs[0].dtype !== "float32") {
      return result.multiNode(node.op, inputs, node.outputs, { ...node.attributes }, node.domain);
    }
    const halves = inputs.map((input) => input && cast(input, "float16"));
    const spec = { shape: node.outputs[0].shape, dtype: "float16" as const };
    return [cast(result.node(node.op, halves, spec, { ...node.attributes }, node.domain), "float32")];
  };
  for (const node of graph.nodesFor(outputs)) {
    copy(node).forEach((made, i) => known.set(node.outputs[i], made));
  }
  return { graph: result, outputs: outputs.map(find) };
}
