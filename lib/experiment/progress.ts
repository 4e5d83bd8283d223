/**
 * How far work is, and how long it will still take.
 *
 * @module
 */
import process from "node:process";
import cliProgress from "cli-progress";
import { formatDuration } from "./duration.ts";

/** What is known about the work at hand. */
export interface ProgressView {
  /** Name of the work, e.g. "[3/14] Train diffusion, svg". */
  readonly label: string;
  /** Part done, 0 … 1. */
  readonly fraction: number;
  /** Time since it began. */
  readonly elapsedSec: number;
  /** Time until it is done; null while unknown. */
  readonly leftSec: number | null;
  /** Time until all stages are done; null while unknown. */
  readonly totalLeftSec: number | null;
  /** A few words beside it, e.g. "loss 0.71". */
  readonly note: string;
}

/** Where progress is shown. */
export interface ProgressDisplay {
  /** Work begins. */
  start(view: ProgressView): void;
  /** Work goes on; called as often as liked. */
  update(view: ProgressView): void;
  /** Work has ended; `line` says how and stays. */
  finish(line: string): void;
  /** Takes away what would disturb other output, e.g. before exiting. */
  clear(): void;
}

/**
 * Estimates the time left from the mean rate since the first report. A resumed training first reports where it
 * starts, and what was done before does not count into the rate.
 */
export class RateClock {
  readonly #now: () => number;
  #first: { done: number; at: number } | null = null;

  /**
   * Nothing is known yet.
   *
   * @param now the time in seconds.
   */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Seconds until `total`, given that `done` is reached now; null before the second report. */
  leftSec(done: number, total: number): number | null {
    const at = this.#now();
    this.#first ??= { done, at };
    const gained = done - this.#first.done;
    if (done >= total) return 0;
    return gained > 0 ? (at - this.#first.at) / gained * (total - done) : null;
  }
}

/** A bar that is redrawn in place, for terminals. */
export class BarDisplay implements ProgressDisplay {
  #bar: CliBar | null = null;

  /** Draws an empty bar. */
  start(view: ProgressView): void {
    this.clear();
    this.#bar = new (cliProgress as CliProgress).SingleBar({
      format: "{label} {bar} {percentage}% · {times}{note}",
      barCompleteChar: "█",
      barIncompleteChar: "░",
      barsize: 24,
      clearOnComplete: true,
      hideCursor: true,
      stream: process.stderr,
    });
    this.#bar.start(1000, 0, describeProgress(view));
  }

  /** Redraws the bar, ten times a second at most. */
  update(view: ProgressView): void {
    this.#bar?.update(Math.floor(view.fraction * 1000), describeProgress(view));
  }

  /** Puts a line in the bar's place. */
  finish(line: string): void {
    this.clear();
    console.error(line);
  }

  /** Removes the bar and shows the cursor again. */
  clear(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}

/** Lines every few seconds, for logs and pipes. */
export class LineDisplay implements ProgressDisplay {
  readonly #write: (line: string) => void;
  readonly #everySec: number;
  readonly #now: () => number;
  #last = 0;

  /**
   * Lines go to `write`.
   *
   * @param write takes a line; standard error if omitted.
   * @param everySec least time between lines of one stage.
   * @param now the time in seconds.
   */
  constructor(
    write: (line: string) => void = (line) => console.error(line),
    everySec = 5,
    now: () => number = () => performance.now() / 1000,
  ) {
    this.#write = write;
    this.#everySec = everySec;
    this.#now = now;
  }

  /** Writes the label. */
  start(view: ProgressView): void {
    this.#last = this.#now();
    this.#write(`${view.label} …`);
  }

  /** Writes a line if the last one is long enough ago. */
  update(view: ProgressView): void {
    if (this.#now() - this.#last < this.#everySec) return;
    this.#last = this.#now();
    const { times, note } = describeProgress(view);
    this.#write(`${view.label}: ${Math.floor(view.fraction * 100)}% · ${times}${note}`);
  }

  /** Writes the line. */
  finish(line: string): void {
    this.#write(line);
  }

  /** Nothing stands in the way. */
  clear(): void {}
}

/** The part of cli-progress that is used; the package has no types. */
interface CliBar {
  start(total: number, value: number, payload: unknown): void;
  update(value: number, payload: unknown): void;
  stop(): void;
}

interface CliProgress {
  SingleBar: new (options: Record<string, unknown>) => CliBar;
}

/** A view in words: its label, the times "5.2 s · 3 s left", and its note behind a dot. */
export function describeProgress(view: ProgressView): { label: string; times: string; note: string } {
  const times = [formatDuration(view.elapsedSec)];
  if (view.leftSec !== null) times.push(`${formatDuration(view.leftSec)} left`);
  if (view.totalLeftSec !== null) times.push(`all: ${formatDuration(view.totalLeftSec)} left`);
  return { label: view.label, times: times.join(" · "), note: view.note === "" ? "" : ` · ${view.note}` };
}
