/**
 * The worker behind `LatentSamplerPool`: answers each task with one reply.
 *
 * @module
 */
import type { HostTensor } from "novae/tensor/mod.ts";
import type { DitConfig } from "./config.ts";
import type { DitParams } from "./dit.ts";
import type { LatentSamplerOptions, SampleRequest, WeakModel } from "./sample_request.ts";
import { CompiledLatentSampler } from "./sampling.ts";

/** What a worker is asked: to get ready, to take new weights, to draw samples with them. */
export type WorkerTask =
  | { readonly kind: "open"; readonly config: DitConfig; readonly options: LatentSamplerOptions }
  | { readonly kind: "weights"; readonly params: DitParams<HostTensor>; readonly autoguidance?: WeakModel }
  | {
    readonly kind: "sample";
    readonly request: Omit<SampleRequest, keyof SampledModel | "onProgress" | "callback">;
  };

/** What of a request stays the same from batch to batch. */
export type SampledModel = Pick<SampleRequest, "params" | "autoguidance">;

/** What a worker answers. */
export interface WorkerReply {
  readonly latents?: HostTensor;
  readonly error?: string;
}

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerTask>) => void) | null;
  postMessage(reply: WorkerReply, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
let sampler: CompiledLatentSampler | undefined;
let model: SampledModel | undefined;

async function answer(task: WorkerTask): Promise<WorkerReply> {
  switch (task.kind) {
    case "open":
      sampler = new CompiledLatentSampler(task.config, task.options);
      return {};
    case "weights":
      model = { params: task.params, autoguidance: task.autoguidance };
      return {};
    case "sample":
      return { latents: await sampler!.sample({ ...task.request, ...model! }) };
  }
}

scope.onmessage = async ({ data }) => {
  try {
    const reply = await answer(data);
    scope.postMessage(reply, reply.latents ? [reply.latents.data.buffer as ArrayBuffer] : []);
  } catch (error) {
    scope.postMessage({ error: error instanceof Error ? error.message : String(error) }, []);
  }
};
