/**
 * Recording forms of this project's own kernels (see `../fused.ts`): each becomes one of ONNX Runtime's fused
 * operators.
 *
 * @module
 */
import { CONTRIB_DOMAIN, type NodeAttribute } from "../graph.ts";
import { type Kernel, type Traced, whole } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";
import { matMul } from "./matmul.ts";

/** Names of the kernels, as given to tfjs. */
export const LAYER_NORM = "NovaeLayerNorm",
  NORMALISE = "NovaeNormalise",
  GELU = "NovaeGelu",
  SCALED_MATMUL = "NovaeScaledMatMul";

const layerNorm: Kernel = (recorder, { x, weight, bias }, { eps }) => {
  const width = x.shape.at(-1)!;
  const scale = recorder.full(weight ?? recorder.fill(1, [width], "float32"));
  const inputs = [recorder.full(x), scale, ...(bias ? [recorder.full(bias)] : [])];
  return whole(recorder.graph.node(
    "LayerNormalization",
    inputs,
    { shape: x.shape, dtype: "float32" },
    layerNormAttributes(x, eps),
  ));
};

const layerNormAttributes = (x: Traced, eps: number): Record<string, NodeAttribute> => ({
  axis: x.shape.length - 1,
  epsilon: { float: eps },
});

/** The normalised values and the inverse standard deviations, which the operator hands out besides. */
const normalise: Kernel = (recorder, { x }, { eps }) => {
  const scale = recorder.full(recorder.fill(1, [x.shape.at(-1)!], "float32"));
  const moment = { shape: [...x.shape.slice(0, -1), 1], dtype: "float32" as const };
  const [normal, , invStd] = recorder.graph.multiNode(
    "LayerNormalization",
    [recorder.full(x), scale],
    [{ shape: x.shape, dtype: "float32" }, moment, moment],
    layerNormAttributes(x, eps),
  );
  return [whole(normal), whole(invStd)];
};

const gelu: Kernel = (recorder, { x }, { approximate }) =>
  elementwise(recorder, "Gelu", [x], "float32", { approximate });

/** scale · a · b, the factor inside the product where the CPU's FusedMatMul allows it. */
const scaledMatMul: Kernel = (recorder, { a, b }, { scale, transposeA, transposeB }) => {
  if (!recorder.target.cpuOperators) {
    return withNumber(recorder, "Mul", matMul(recorder, a, b, transposeA, transposeB), scale);
  }
  const rows = a.shape.at(transposeA ? -1 : -2)!, cols = b.shape.at(transposeB ? -2 : -1)!;
  const spec = { shape: [...a.shape.slice(0, -2), rows, cols], dtype: "float32" as const };
  const flags = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: scale } };
  const inputs = [recorder.full(a), recorder.full(b)];
  return whole(recorder.graph.node("FusedMatMul", inputs, spec, flags, CONTRIB_DOMAIN));
};

export const FUSED_KERNELS: Readonly<Record<string, Kernel>> = {
  [GELU]: gelu,
  [LAYER_NORM]: layerNorm,
  [NORMALISE]: normalise,
  [SCALED_MATMUL]: scaledMatMul,
};
