/**
 * An output of a notebook that is drawn anew in its place while a cell runs.
 *
 * @module
 */
import type { JsonObject } from "./figure.ts";

/** Forms of one output by MIME type. */
export interface MimeBundle {
  /** Text, base64 or JSON, as the type demands. */
  readonly [mimeType: string]: string | JsonObject;
}

/** Sends an output to the notebook, as `Deno.jupyter.display` does. */
export type ShowOutput = (bundle: MimeBundle, options: Deno.jupyter.DisplayOptions) => Promise<void>;

/** Keeps the newest drawing until the notebook has taken the one before, and sends no two within a time. */
export class RedrawnOutput {
  readonly #show: ShowOutput;
  readonly #id: string;
  readonly #everyMs: number;
  #next: MimeBundle | null = null;
  #drawing: Promise<void> | null = null;
  #begun = false;

  /**
   * Nothing is shown before the first drawing.
   *
   * @param id of the output, unique within the notebook.
   * @param everyMs the least time between drawings.
   */
  constructor(id: string, show: ShowOutput, everyMs: number) {
    this.#id = id;
    this.#show = show;
    this.#everyMs = everyMs;
  }

  /** Draws at once, or when the notebook is ready for it unless something newer has come by then. */
  draw(bundle: MimeBundle): void {
    this.#next = bundle;
    this.#drawing ??= this.#drain();
  }

  /** Waits until the notebook has taken the last drawing. */
  async settled(): Promise<void> {
    while (this.#drawing !== null) await this.#drawing;
  }

  async #drain(): Promise<void> {
    for (let first = true; this.#next !== null; first = false) {
      if (!first) await new Promise((resolve) => setTimeout(resolve, this.#everyMs));
      const bundle = this.#next, update = this.#begun;
      this.#next = null;
      this.#begun = true;
      await this.#show(bundle, { raw: true, "display_id": this.#id, update });
    }
    this.#drawing = null;
  }
}
