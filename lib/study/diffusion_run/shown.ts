/**
 * A diffusion training as it is shown while it runs: a bar in a terminal, lines in a log, curves and samples in a
 * notebook.
 *
 * @module
 */
import { BarDisplay, formatDuration, LineDisplay, type ProgressDisplay } from "novae/experiment/mod.ts";
import { imagePanel, inNotebook, NotebookFigure, NotebookProgress, type ShowOutput } from "novae/plot/mod.ts";
import { readImageSize } from "./samples.ts";
import type { DiffusionCurves } from "./curves.ts";
import { lossFigure, scoreFigure } from "./figures.ts";

/** How far a training is. */
export interface ShownProgress {
  /** Training images seen. */
  readonly imagesSeen: number;
  /** Training images in all. */
  readonly images: number;
  /** Seconds to go; null while unknown. */
  readonly leftSec: number | null;
  /** A few words: loss and speed. */
  readonly note: string;
}

/** Where a training is shown. */
export interface TrainingDisplay {
  /** How far it is. */
  progress(at: ShownProgress): void;
  /** New points of its curves. */
  curves(curves: DiffusionCurves): void;
  /** New samples, a PNG. */
  samples(png: Uint8Array): void;
  /** A line that stays. */
  say(line: string): void;
  /** It has ended; the line says how. */
  finish(line: string): Promise<void>;
  /** Takes away what would disturb other output. */
  clear(): void;
}

/** What shows a training: the notebook where there is one, else a bar in a terminal or lines. */
export function openDisplay(label: string): TrainingDisplay {
  return inNotebook() ? new NotebookTraining(label) : new TerminalTraining(label);
}

/** A bar on standard error, or lines where that is no terminal. */
export class TerminalTraining implements TrainingDisplay {
  readonly #bar: LabelledBar;
  readonly #display: ProgressDisplay;

  /** Shows nothing before the first report. */
  constructor(label: string, display?: ProgressDisplay) {
    this.#display = display ?? (Deno.stderr.isTerminal() ? new BarDisplay() : new LineDisplay());
    this.#bar = new LabelledBar(label, this.#display);
  }

  progress(at: ShownProgress): void {
    this.#bar.update(at);
  }

  curves(): void {}

  samples(): void {}

  say(line: string): void {
    this.#display.clear();
    console.error(line);
    this.#bar.restart();
  }

  finish(line: string): Promise<void> {
    this.#display.finish(line);
    return Promise.resolve();
  }

  clear(): void {
    this.#display.clear();
  }
}

/** A bar, curves of loss and Fréchet distance, and the last samples, each redrawn in its place under the cell. */
export class NotebookTraining implements TrainingDisplay {
  readonly #bar: LabelledBar;
  readonly #display: NotebookProgress;
  readonly #loss: NotebookFigure;
  readonly #score: NotebookFigure;
  readonly #samples: NotebookFigure;

  /** Shows nothing before the first report. @param show takes the outputs; the notebook if omitted. */
  constructor(label: string, show?: ShowOutput) {
    this.#display = new NotebookProgress({ show });
    this.#bar = new LabelledBar(label, this.#display);
    [this.#loss, this.#score, this.#samples] = [1000, 1000, 1000].map((everyMs) =>
      new NotebookFigure({ show, everyMs })
    );
  }

  progress(at: ShownProgress): void {
    this.#bar.update(at);
  }

  curves(curves: DiffusionCurves): void {
    if (curves.train.length > 1) this.#loss.draw(lossFigure(curves));
    if (curves.scores.length > 1) this.#score.draw(scoreFigure(curves.scores));
  }

  samples(png: Uint8Array): void {
    this.#samples.draw(imagePanel({ png, ...readImageSize(png) }, { title: "Samples" }));
  }

  say(line: string): void {
    console.log(line);
  }

  async finish(line: string): Promise<void> {
    this.#display.finish(line);
    for (const part of [this.#display, this.#loss, this.#score, this.#samples]) await part.settled();
  }

  clear(): void {}
}

/** Turns reports into the views of a display. */
class LabelledBar {
  readonly #label: string;
  readonly #display: ProgressDisplay;
  readonly #started = performance.now();
  #begun = false;

  constructor(label: string, display: ProgressDisplay) {
    this.#label = label;
    this.#display = display;
  }

  update({ imagesSeen, images, leftSec, note }: ShownProgress): void {
    const view = {
      label: this.#label,
      fraction: Math.min(imagesSeen / images, 1),
      elapsedSec: (performance.now() - this.#started) / 1000,
      leftSec,
      totalLeftSec: null,
      note,
    };
    if (this.#begun) return this.#display.update(view);
    this.#begun = true;
    this.#display.start(view);
  }

  restart(): void {
    this.#begun = false;
  }
}

/** How a training ended, in a line. */
export function endLine(label: string, stopped: boolean, step: number, sec: number): string {
  return stopped
    ? `✗ ${label} · stopped after update ${step}, ${formatDuration(sec)}`
    : `✓ ${label} · ${formatDuration(sec)}`;
}
