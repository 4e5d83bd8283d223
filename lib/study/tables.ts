/**
 * The result of a study as a table for the terminal.
 *
 * @module
 */
import { TextTable } from "novae/experiment/mod.ts";
import type { StudyConfig } from "./config.ts";
import type { DiffusionRecord, SampleScore, StudyResult } from "./results.ts";

/** One row a space: reconstruction, probes, and the Fréchet distances of the final samples. */
export function studyTable(result: StudyResult, config: StudyConfig): string {
  const { steps, cfgScale, samples } = config.sampling;
  const table = new TextTable([
    "space",
    { title: "PSNR", digits: 2 },
    { title: "SSIM", digits: 3 },
    { title: "rFD", digits: 2 },
    { title: "linear %", digits: 1 },
    { title: "k-NN %", digits: 1 },
    ...steps.map((n) => ({ title: `FD@${n}`, digits: 2 })),
    ...steps.map((n) => ({ title: `FD@${n} cfg`, digits: 2 })),
  ]);
  for (const space of result.spaces) {
    const diffusion = result.diffusion.find((d) => d.space === space.space)!;
    const value = (n: number, scale: number) =>
      finalScore(diffusion, n, scale)?.frechet.classifier.value ?? null;
    table.add(
      space.space,
      space.reconstruction.psnr,
      space.reconstruction.ssim,
      space.reconstruction.frechet.classifier.value,
      100 * space.probes.linearPooled,
      100 * space.probes.knn,
      ...steps.map((n) => value(n, 1)),
      ...steps.map((n) => value(n, cfgScale)),
    );
  }
  const { data, judges } = result;
  return `${table.toString()}
FD: Fréchet distance by the classifier's features; rFD of ${data.test} reconstructions to the held-out images, FD of
${samples} samples to the ${data.train} training images (${data.test} real held-out images: ${
    judges.floor.classifier.value.toFixed(2)
  }); cfg ${cfgScale}.`;
}

/** The score at the last checkpoint with the given steps and guidance. */
export function finalScore(
  record: DiffusionRecord,
  steps: number,
  cfgScale: number,
): SampleScore | undefined {
  const last = Math.max(...record.scores.map((s) => s.imagesSeen));
  return record.scores.find((s) => s.imagesSeen === last && s.steps === steps && s.cfgScale === cfgScale);
}
