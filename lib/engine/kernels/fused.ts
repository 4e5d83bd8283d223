/**
 * Recording forms of this project's own kernels (see `../fused.ts`): each becomes one of ONNX Runtime's fused
 * operators.
 *
 * @module
 */
import { CONTRIB_DOMAIN, type NodeAttribute } from "../graph.ts";
import { type Kernel, type Recorder, type Traced, whole } from "../recorder.ts";
import { elementwise, withNumber } from "./broadcasting.ts";
import { matMul } from "./matmul.ts";

/** Names of the kernels, as given to tfjs. */
export const LAYER_NORM = "NovaeLayerNorm", GELU = "NovaeGelu", SCALED_MATMUL = "NovaeScaledMatMul";

const layerNorm: Kernel = (recorder, { x, weight, bias }, { eps }) => {
  const { graph } = recorder;
  const width = x.shape.at(-1)!;
  const scale = recorder.full(weight ?? recorder.fill(1, [width], "float32"));
  const inputs = [recorder.full(x), scale, ...(bias ? [recorder.full(bias)] : [])];
  const attributes: Record<string, NodeAttribute> = { axis: x.shape.length - 1, epsilon: { float: eps } };
  return whole(graph.node("LayerNormalization", inputs, { shape: x.shape, dtype: "float32" }, attributes));
};

const gelu: Kernel = (recorder, { x }, { approximate }) =>
  elementwise(recorder, "Gelu", [x], "float32", { approximate });

/** scale · a · b, the factor inside the product where the CPU's FusedMatMul allows it. */
const scaledMatMul: Kernel = (recorder, { a, b }, { scale, transposeA, transposeB }) => {
  if (!recorder.target.cpuOperators) {
    return withNumber(recorder, "Mul", matMul(recorder, a, b, transposeA, transposeB), scale);
  }
  return fusedProduct(recorder, a, b, { scale, transposeA, transposeB });
};

function fusedProduct(
  recorder: Recorder,
  a: Traced,
  b: Traced,
  { scale, transposeA, transposeB }: { scale: number; transposeA: boolean; transposeB: boolean },
): Traced {
  const rows = a.shape.at(transposeA ? -1 : -2)!, cols = b.shape.at(transposeB ? -2 : -1)!;
  const spec = { shape: [...a.shape.slice(0, -2), rows, cols], dtype: "float32" as const };
  const flags = { transA: Number(transposeA), transB: Number(transposeB), alpha: { float: scale } };
  const inputs = [recorder.full(a), recorder.full(b)];
  return whole(recorder.graph.node("FusedMatMul", inputs, spec, flags, CONTRIB_DOMAIN));
}

export const FUSED_KERNELS: Readonly<Record<string, Kernel>> = {
  [LAYER_NORM]: layerNorm,
  [GELU]: gelu,
  [SCALED_MATMUL]: scaledMatMul,
};
