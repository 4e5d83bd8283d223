/**
 * The entry of a module worker that renders ranges of `solids` images on request. Nothing imports it: it takes over
 * the message handler of the thread it runs in.
 *
 * @module
 */
import { type RenderedRange, renderRange, type RenderRequest } from "./solids_render.ts";

/** The part of a worker's global scope used here; the project is type-checked with a window's. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<RenderRequest>) => void) | null;
  postMessage(message: RenderedRange, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;
scope.onmessage = ({ data }) => {
  const rendered = renderRange(data);
  scope.postMessage(rendered, [rendered.pixels.buffer, rendered.mask.buffer, rendered.depth.buffer]);
};
