/**
 * Encoders that are ready to run, by reference.
 *
 * @module
 */
import { DinoEncoder, type DinoEncoderOptions } from "./encoder.ts";
import { type LoadedEncoder, loadEncoder, type LoadEncoderOptions } from "./load_encoder.ts";

/** An encoder that is ready to run and what is known of it. */
export interface OpenedEncoder extends Pick<LoadedEncoder, "family" | "preprocessing" | "source"> {
  /** The encoder, which prepares images itself; dispose of it. */
  readonly encoder: DinoEncoder;
}

/**
 * Loads an encoder and makes it ready for images of any size: their preparation is compiled with it.
 *
 * @example
 * ```ts
 * import { Rng, zeros } from "novae/tensor/mod.ts";
 * import { initVit, openEncoder, saveEncoder, VIT_SIZES } from "novae/dino/mod.ts";
 * const path = `${await Deno.makeTempDir()}/encoder.safetensors`;
 * await saveEncoder(path, VIT_SIZES.tiny, initVit(new Rng(0), VIT_SIZES.tiny));
 * const { encoder } = await openEncoder(path, { device: "cpu" });
 * const { patchesBND } = await encoder.features(zeros([1, 30, 40, 3]));
 * if (`${patchesBND.shape}` !== "1,16,16") throw new Error("unexpected shape");
 * await encoder.dispose();
 * ```
 * @param reference as `loadEncoder` takes it.
 * @param options.preprocessing how images are prepared instead.
 * @throws WeightsError and ConfigError as `loadEncoder`.
 */
export async function openEncoder(
  reference: string,
  options: DinoEncoderOptions & LoadEncoderOptions = {},
): Promise<OpenedEncoder> {
  const { config, params, family, preprocessing: own, source } = await loadEncoder(reference, options);
  const preprocessing = options.preprocessing ?? own;
  const encoder = new DinoEncoder(config, params, { ...options, preprocessing });
  return { encoder, family, preprocessing, source };
}
