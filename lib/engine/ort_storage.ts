/**
 * Memory of ONNX Runtime tensors.
 *
 * @module
 */
import * as ort from "onnxruntime-node";
import type { DType, HostTensor, TypedArray } from "novae/tensor/mod.ts";
import type { DeviceStorage } from "./device_tensor.ts";
import { Graph } from "./graph.ts";
import { writeModel } from "./onnx_model.ts";
import { createSession, type GraphSession } from "./session.ts";

/** Storage in one of ONNX Runtime's tensors, in host memory or in a GPU buffer. */
export class OrtStorage implements DeviceStorage {
  constructor(readonly handle: ort.Tensor) {}

  async read(): Promise<TypedArray> {
    if (this.handle.location === "gpu-buffer") return await download(this.handle);
    // A copy, since donation may overwrite the memory later.
    return (this.handle.data as TypedArray).slice();
  }

  dispose(): void {
    this.handle.dispose();
  }
}

/** Wraps host memory without copying. */
export function toOrtTensor({ dtype, shape, data }: HostTensor): ort.Tensor {
  return new ort.Tensor(dtype, data as never, shape);
}

/** Downloading through `getData` aborts the process in ONNX Runtime 1.30, so a copy to the host is run instead. */
async function download(tensor: ort.Tensor): Promise<TypedArray> {
  const session = await copySession(tensor.type as DType, tensor.dims);
  const { y } = await session.run({ x: tensor }, { y: null });
  return (y as ort.Tensor).data as TypedArray;
}

const copySessions = new Map<string, Promise<GraphSession>>();

function copySession(dtype: DType, shape: readonly number[]): Promise<GraphSession> {
  const key = `${dtype}[${shape.join()}]`;
  let session = copySessions.get(key);
  if (!session) {
    const graph = new Graph();
    const value = graph.input("x", { shape, dtype });
    session = createSession(writeModel(graph, [{ name: "y", value }], "copy"), "webgpu");
    copySessions.set(key, session);
  }
  return session;
}
