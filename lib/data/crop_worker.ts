/**
 * The entry of a module worker that makes the crops of training steps on request. Nothing imports it: it takes over
 * the message handler of the thread it runs in.
 *
 * @module
 */
import { type CropAnswer, type CropWork, makeCrops } from "./crop_work.ts";

/** The part of a worker's global scope used here; the project is type-checked with a window's. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<CropWork>) => void) | null;
  postMessage(message: CropAnswer, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data }) => {
  try {
    const views = makeCrops(data);
    scope.postMessage({ views }, Object.values(views).map((view) => view.data.buffer));
  } catch (error) {
    scope.postMessage({ failure: (error as Error).message }, []);
  }
};
