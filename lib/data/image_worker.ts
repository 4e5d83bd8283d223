/**
 * The entry of a module worker that reads, decodes and frames image files on request. Nothing imports it but for its
 * types: it takes over the message handler of the thread it runs in.
 *
 * @module
 */
import { NovaeError } from "novae/tensor/mod.ts";
import { decodeImage } from "novae/io/mod.ts";
import { type CropPlace, frameImage, type Framing } from "./framing.ts";

/** Files to be prepared. */
export interface FrameRequest {
  readonly paths: readonly string[];
  readonly framing: Framing;
  /** Where the crop of each lies, null for the middle; the middle of all if absent. */
  readonly places?: readonly (CropPlace | null)[];
  /** Numbers that each image comes to. */
  readonly values: number;
}

/** The images asked for, one after another, or what is wrong with one of them. */
export type FramedImages =
  | { readonly pixels: Float32Array<ArrayBuffer> }
  | { readonly pixels: null; readonly problem: string };

/** The part of a worker's global scope used here; the project is type-checked with a window's. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<FrameRequest>) => void) | null;
  postMessage(message: FramedImages, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
let last: Promise<void> = Promise.resolve();
scope.onmessage = ({ data }) => {
  last = last.then(async () => { // answers come in the order of the requests
    const images = await frameAll(data);
    scope.postMessage(images, images.pixels === null ? [] : [images.pixels.buffer]);
  });
};

async function frameAll({ paths, framing, places, values }: FrameRequest): Promise<FramedImages> {
  const pixels = new Float32Array(paths.length * values);
  for (const [i, path] of paths.entries()) {
    const image = await decodeImage(path).catch(asProblem);
    if (typeof image === "string") return { pixels: null, problem: image };
    try {
      frameImage(image, framing, pixels.subarray(i * values, (i + 1) * values), places?.[i]);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return { pixels: null, problem: error.message.replace("images", path) };
    }
  }
  return { pixels };
}

function asProblem(error: unknown): string {
  if (error instanceof NovaeError) return error.message;
  throw error;
}
