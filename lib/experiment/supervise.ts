/**
 * Ending runs in good order: the status says how, whether they finish, fail or are stopped by a person.
 *
 * @module
 */
import type { RunFolder } from "./run_folder.ts";

/**
 * Does the work of a run and keeps its status right: "done" afterwards, "failed" with the reason if it throws,
 * "stopped" if the process is interrupted (SIGINT, SIGTERM), which then ends with exit status 128 + signal.
 *
 * @param work the run; it may call `run.finish` itself.
 * @param onStop called before exiting on a signal, e.g. to restore the terminal.
 * @param gentle aborted by the first signal instead, so that the work can keep what it has and return; the run is
 * "stopped" then, and a second signal exits.
 * @returns what `work` returns; its errors pass.
 */
export async function superviseRun<T>(
  run: RunFolder,
  work: () => Promise<T>,
  onStop?: () => void,
  gentle?: AbortController,
): Promise<T> {
  const release = stopOnSignals(run, onStop, gentle);
  try {
    const result = await work();
    if (run.status.state !== "done") run.setState(gentle?.signal.aborted ? "stopped" : "done");
    return result;
  } catch (error) {
    const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    try {
      run.setState("failed", reason);
      run.log(error instanceof Error && error.stack ? error.stack : reason);
    } catch { /* a full disk must not hide the error itself */ }
    throw error;
  } finally {
    release();
  }
}

/**
 * Notes "stopped" and exits when a person interrupts the process. Everything in a run folder is written atomically,
 * so that any moment will do.
 *
 * @param onStop called before exiting.
 * @param gentle aborted by the first signal, which then does nothing else.
 * @returns stops listening.
 */
export function stopOnSignals(run: RunFolder, onStop?: () => void, gentle?: AbortController): () => void {
  const signals: [Deno.Signal, number][] = Deno.build.os === "windows"
    ? [["SIGINT", 2], ["SIGBREAK", 21]]
    : [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]];
  const listeners = signals.map(([signal, number]) => {
    const listener = (): void => {
      if (gentle && !gentle.signal.aborted) {
        gentle.abort();
        console.error("Stopping after this update; once more stops at once.");
        return;
      }
      try {
        onStop?.();
        run.setState("stopped");
        run.log(`stopped by ${signal}`);
      } catch { /* exiting matters more */ }
      console.error(`Stopped; ${run.path} can be gone on with (--resume).`);
      Deno.exit(128 + number);
    };
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  return () => listeners.forEach((remove) => remove());
}
