/**
 * Work of which so many of so many pieces are done, on a display.
 *
 * @module
 */
import { formatDuration } from "./duration.ts";
import { type ProgressDisplay, RateClock } from "./progress.ts";

/** How many pieces are done. */
export interface WorkCount {
  /** Pieces done so far. */
  readonly done: number;
  /** Pieces in all. */
  readonly total: number;
  /** Something a person should know. */
  readonly note?: string;
}

/** Shows on a display how far counted work has come and how long it will still take. */
export class CountedWork {
  readonly #label: string;
  readonly #unit: string;
  readonly #display: ProgressDisplay;
  readonly #now: () => number;
  readonly #clock: RateClock;
  readonly #start: number;
  #state: "new" | "shown" | "finished" = "new";
  #note = "";

  /**
   * The time runs from here on.
   *
   * @param label name of the work.
   * @param unit what is counted, e.g. "images".
   * @param now the time in seconds.
   */
  constructor(
    label: string,
    unit: string,
    display: ProgressDisplay,
    now: () => number = () => performance.now() / 1000,
  ) {
    this.#label = label;
    this.#unit = unit;
    this.#display = display;
    this.#now = now;
    this.#clock = new RateClock(now);
    this.#start = now();
  }

  /** Shows a count; the first begins the display, one that has reached its total ends it. A note stays. */
  report({ done, total, note }: WorkCount): void {
    if (this.#state === "finished") return;
    const elapsedSec = this.#now() - this.#start,
      counts = `${grouped(done)} of ${grouped(total)} ${this.#unit}`;
    if (note !== undefined) this.#note = ` · ${note}`;
    const view = {
      label: this.#label,
      fraction: total > 0 ? done / total : 1,
      elapsedSec,
      leftSec: this.#clock.leftSec(done, total),
      totalLeftSec: null,
      note: counts + this.#note,
    };
    if (this.#state === "new") this.#display.start(view);
    else if (done < total) this.#display.update(view);
    this.#state = "shown";
    if (done < total) return;
    this.#state = "finished";
    this.#display.finish(
      `${this.#label}: ${grouped(total)} ${this.#unit} in ${formatDuration(elapsedSec)}${this.#note}`,
    );
  }
}

function grouped(count: number): string {
  return count.toLocaleString("en");
}
