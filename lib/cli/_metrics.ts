import { join } from "node:path";
import { MetricsLog } from "novae/experiment/mod.ts";
import { makeFolderOf } from "./_encoder_record.ts";

/**
 * The metrics of a run, without those of steps that a resumed training does again.
 *
 * @param resumed the step that it goes on from; null for a new training.
 * @param evaluation kind of the records that are made again at that step.
 */
export async function openMetrics(
  run: string,
  resumed: number | null,
  evaluation: string,
): Promise<MetricsLog> {
  const path = join(run, "metrics.jsonl");
  await makeFolderOf(path);
  const metrics = MetricsLog.open(path);
  await metrics.retain(({ step, kind }) =>
    resumed !== null && (Number(step) < resumed || (step === resumed && kind !== evaluation))
  );
  return metrics;
}
