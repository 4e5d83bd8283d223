/**
 * Tensors of DINOv3's files that are no weights but must agree with what the transformer does without them.
 *
 * @module
 */
import { type HostTensor, WeightsError } from "novae/tensor/mod.ts";
import type { VitConfig } from "./config.ts";
import { SPECIAL_NAMES } from "./weight_names.ts";
import type { WeightSource } from "./weight_source.ts";

/**
 * Checks rotary periods, masks of biases and biases of keys.
 *
 * Periods must be those of the settings' frequencies. Biases of keys must be zero where the settings have none,
 * unless a mask drops them, which must drop nothing else; a mask of NaN was never filled and counts as filled.
 *
 * @param tensors by bare name.
 * @returns names of the tensors that have served their purpose.
 * @throws WeightsError naming the tensor that does not agree.
 */
export async function checkSpecials(
  what: string,
  tensors: WeightSource,
  config: VitConfig,
): Promise<string[]> {
  const served: string[] = [];
  for (const [name, tensor] of tensors) {
    const check = checkOf(name, tensors, config);
    if (!check) continue;
    const wrong = check(await tensor.read());
    if (wrong !== undefined) throw new WeightsError(`${what}: ${name} must ${wrong}`);
    if (!FUSED_BIAS.test(name)) served.push(name);
  }
  return served;
}

const FUSED_BIAS = /^blocks\.\d+\.attn\.qkv\.bias$/;

/** What is wrong with a tensor, if anything. */
type Check = (tensor: HostTensor) => string | undefined;

function checkOf(name: string, tensors: WeightSource, config: VitConfig): Check | undefined {
  const { ropeTheta, attentionBias = "qv" } = config;
  if (name === SPECIAL_NAMES.periods && ropeTheta !== undefined) {
    return (tensor) => periodsOf(tensor, ropeTheta);
  }
  if (attentionBias === "qkv") return undefined;
  if (SPECIAL_NAMES.biasMask.test(name)) return maskOfBiases;
  if (SPECIAL_NAMES.keyBias.test(name)) return ({ data }) => onlyZeros(data);
  if (attentionBias === "qv" && FUSED_BIAS.test(name) && !tensors.has(`${name}_mask`)) {
    return ({ data }) => onlyZeros(data.subarray(data.length / 3, 2 * data.length / 3), " for keys");
  }
}

/** bfloat16 keeps 8 bits. */
const PERIOD_TOLERANCE = 1 / 128;

function periodsOf({ data }: HostTensor, theta: number): string | undefined {
  for (let i = 0; i < data.length; i++) {
    const wanted = theta ** (i / data.length);
    if (!(Math.abs(data[i] / wanted - 1) <= PERIOD_TOLERANCE)) {
      return `be ${theta} ** (i / ${data.length}), got ${data[i]} for i = ${i}`;
    }
  }
}

function maskOfBiases({ data }: HostTensor): string | undefined {
  const width = data.length / 3;
  for (let i = 0; i < data.length; i++) {
    const wanted = i >= width && i < 2 * width ? 0 : 1;
    if (data[i] !== wanted && !Number.isNaN(data[i])) return `be ${wanted} at ${i}, got ${data[i]}`;
  }
}

function onlyZeros(data: ArrayLike<number>, where = ""): string | undefined {
  for (let i = 0; i < data.length; i++) if (data[i] !== 0) return `be zero${where}, got ${data[i]}`;
}
