/**
 * Gradients that TensorFlow.js 4.22 lacks or gives only for some arguments, written in its own operations, so that
 * they hold for eager functions as for recorded ones.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

// deno-lint-ignore no-explicit-any -- attributes are untyped in tfjs's kernel registry
type Attrs = any;
/** What a kernel's inputs get, by their names. */
type InputGradients = Record<string, () => tf.Tensor>;
type GradientFunction = (dy: tf.Tensor, saved: tf.Tensor[], attrs: Attrs) => InputGradients;

/** tfjs's own gradient of a kernel with another function around it. */
function around(kernelName: string, wrap: (own: GradientFunction) => GradientFunction): tf.GradConfig {
  const config = tf.getGradient(kernelName);
  return { ...config, gradFunc: wrap(config.gradFunc as GradientFunction) as tf.GradConfig["gradFunc"] };
}

/** A gradient of its own; what is saved is named. */
function fresh(kernelName: string, inputsToSave: string[], gradFunc: GradientFunction): tf.GradConfig {
  return { kernelName, inputsToSave, gradFunc: gradFunc as tf.GradConfig["gradFunc"] };
}

/** Adds up what an operand that was broadcast contributed to. */
function sumTo(gradient: tf.Tensor, shape: readonly number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes([...shape], gradient.shape);
  return tf.reshape(axes.length > 0 ? tf.sum(gradient, axes) : gradient, [...shape]);
}

/** tfjs forgets to add up here, and fails unless both operands have the same shape. */
const broadcasting = (kernelName: string): tf.GradConfig =>
  around(kernelName, (own) => (dy, saved, attrs) => {
    const gradients = own(dy, saved, attrs), [a, b] = saved;
    return { a: () => sumTo(gradients.a(), a.shape), b: () => sumTo(gradients.b(), b.shape) };
  });

type Pair = [number, number];

/** Zeros behind each of the first two axes' elements: [h, w, …] to [h · dh, w · dw, …]. */
function spread(filter: tf.Tensor, [dh, dw]: Pair): tf.Tensor {
  const [height, width, inputs, outputs] = filter.shape;
  const rows = tf.pad(tf.reshape(filter, [height, 1, -1]), [[0, 0], [0, dh - 1], [0, 0]]);
  const columns = tf.pad(tf.reshape(rows, [height * dh, width, 1, -1]), [[0, 0], [0, 0], [0, dw - 1], [
    0,
    0,
  ]]);
  return tf.reshape(columns, [height * dh, width * dw, inputs, outputs]);
}

/** The kernel of the equal convolution without dilation: [(h − 1) · dh + 1, (w − 1) · dw + 1, …]. */
function dilated(filter: tf.Tensor, [dh, dw]: Pair): tf.Tensor {
  const [height, width] = filter.shape;
  const extents = [(height - 1) * dh + 1, (width - 1) * dw + 1, -1, -1];
  return tf.slice(spread(filter, [dh, dw]), [0, 0, 0, 0], extents);
}

/** The transpose of {@linkcode dilated}: the elements that a kernel of `shape` has in the dilated one. */
function undilated(gradient: tf.Tensor, shape: readonly number[], [dh, dw]: Pair): tf.Tensor {
  const [height, width, inputs, outputs] = shape;
  const even = tf.pad(gradient, [[0, dh - 1], [0, dw - 1], [0, 0], [0, 0]]);
  const rows = tf.slice(tf.reshape(even, [height, dh, -1]), [0, 0, 0], [-1, 1, -1]);
  const columns = tf.slice(tf.reshape(rows, [height * width, dw, -1]), [0, 0, 0], [-1, 1, -1]);
  return tf.reshape(columns, [height, width, inputs, outputs]);
}

/** tfjs differentiates convolutions without dilation only. */
const dilatedConvolution = (kernelName: string): tf.GradConfig =>
  around(kernelName, (own) => (dy, [x, filter], attrs) => {
    const { dilations } = attrs;
    const pair: Pair = Array.isArray(dilations) ? dilations as Pair : [dilations ?? 1, dilations ?? 1];
    if (pair[0] === 1 && pair[1] === 1) return own(dy, [x, filter], attrs);
    const gradients = own(dy, [x, dilated(filter, pair)], { ...attrs, dilations: [1, 1] });
    return { x: gradients.x, filter: () => undilated(gradients.filter(), filter.shape, pair) };
  });

/** tfjs transposes the result once more, and takes negative axes for others. */
const cumsum = fresh("Cumsum", [], (dy, _, { axis, exclusive, reverse }) => ({
  x: () => tf.cumsum(dy, axis < 0 ? axis + dy.rank : axis, exclusive, !reverse),
}));

/** tfjs takes negative axes for others. */
const prod = around(
  "Prod",
  (own) => (dy, [x], attrs) => own(dy, [x], { ...attrs, axis: tf.util.parseAxisParam(attrs.axis, x.shape) }),
);

/** `einsum(terms → result)`, where tfjs's cpu kernel fails for scalars too. */
function sumOfProducts(terms: readonly string[], tensors: readonly tf.Tensor[], result: string): tf.Tensor {
  const isScalar = terms.map((term) => term === "");
  const scalars = tensors.filter((_, i) => isScalar[i]), rest = tensors.filter((_, i) => !isScalar[i]);
  const equation = `${terms.filter((term) => term !== "").join(",")}->${result}`;
  if (rest.length === 0) return scalars.reduce((a, b) => tf.mul(a, b));
  const sum = equation === `${result}->${result}` ? rest[0] : tf.einsum(equation, ...rest);
  return scalars.reduce((product, factor) => tf.mul(product, factor), sum);
}

/** The sum over products with the roles of the result and the operand exchanged; axes of the operand alone repeat. */
const einsum: tf.GradConfig = {
  kernelName: "Einsum",
  saveAllInputs: true,
  gradFunc: ((dy, operands, { equation }) => {
    const [left, result] = (equation as string).replaceAll(" ", "").split("->");
    const terms = left.split(",");
    return Object.fromEntries(terms.map((term, i) => [i, () => {
      const others = [result, ...terms.filter((_, j) => j !== i)];
      const tensors = [dy, ...operands.filter((_, j) => j !== i)];
      const shared = [...term].filter((axis) => others.join("").includes(axis));
      const gradient = sumOfProducts(others, tensors, shared.join(""));
      const kept = [...term].map((axis, at) => shared.includes(axis) ? operands[i].shape[at] : 1);
      return tf.broadcastTo(tf.reshape(gradient, kept), operands[i].shape);
    }]));
  }) as GradientFunction as tf.GradConfig["gradFunc"],
};

const gatherNd = fresh("GatherNd", ["params", "indices"], (dy, [params, indices]) => ({
  params: () => tf.scatterND(indices, dy, params.shape),
  indices: () => tf.zeros(indices.shape),
}));

const scatterNd = fresh("ScatterNd", ["indices"], (dy, [indices]) => ({
  updates: () => tf.gatherND(dy, indices),
  indices: () => tf.zeros(indices.shape),
}));

/** The gradients of the values go to where they were taken from. */
const topK: tf.GradConfig = {
  kernelName: "TopK",
  inputsToSave: ["x"],
  outputsToSave: [false, true],
  gradFunc: (dys, [x, indices]) => ({
    x: () => {
      const places = tf.range(0, x.shape.at(-1)!, 1, "int32");
      const taken = tf.cast(tf.equal(tf.expandDims(indices, -1), places), "float32");
      return tf.sum(tf.mul(taken, tf.expandDims((dys as tf.Tensor[])[0], -1)), -2);
    },
  }),
};

/** To be registered in place of tfjs's. */
export const GRADIENTS: readonly tf.GradConfig[] = [
  ...["BatchMatMul", "Maximum", "Minimum", "SquaredDifference"].map(broadcasting),
  ...["Conv2D", "DepthwiseConv2dNative"].map(dilatedConvolution),
  cumsum,
  einsum,
  gatherNd,
  prod,
  scatterNd,
  topK,
];
