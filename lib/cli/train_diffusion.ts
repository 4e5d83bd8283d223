/**
 * `novae train diffusion`: trains a diffusion transformer on the latents of one space, in a run folder.
 *
 * @module
 */
import { join } from "node:path";
import type { Command } from "commander";
import { type DeviceName, resolveDevice } from "novae/engine/mod.ts";
import { readBytes, writeFileAtomic } from "novae/io/mod.ts";
import {
  describeRun,
  type DiffusionRunOptions,
  type LatentsRecord,
  resolveRun,
  runDiffusionTraining,
  shortDataName,
  WEIGHTS_FILE,
} from "novae/study/mod.ts";
import { addDiffusionOptions, type DiffusionFlags, type PlaceFlags, resumed } from "./_diffusion_flags.ts";
import { Opened, openJudge, openSources } from "./_diffusion_materials.ts";
import { readInitial, settingsOf } from "./_diffusion_settings.ts";

/** Exit status of a process that a person interrupted. */
const EXIT_INTERRUPTED = 130;

/** Adds `diffusion` to the `train` command. */
export function registerTrainDiffusion(train: Command): void {
  const command = train.command("diffusion")
    .description(
      "train a diffusion transformer on latents: of a folder or file, or encoded by an autoencoder",
    );
  addDiffusionOptions(command).action(
    ({ device, runs, resume, dryRun, out, ...given }: PlaceFlags & DiffusionFlags) =>
      run({ device, runs, resume, dryRun, out }, given),
  );
}

async function run(place: PlaceFlags, given: DiffusionFlags): Promise<void> {
  const found = await resumed(place, given), flags = found?.flags ?? given;
  const { device } = await resolveDevice(place.device as DeviceName), opened = new Opened();
  try {
    const options = await optionsOf(flags, device, opened);
    if (place.dryRun) return console.log(describeRun(resolveRun(options)));
    const result = await runDiffusionTraining({
      ...options,
      // Asked for by name, so that the record says why this device was taken.
      device: place.device as DeviceName,
      root: place.runs,
      resume: found?.folder ?? false,
      argv: Deno.args,
      input: flags,
    });
    if (result.stopped) {
      console.error(`Stopped after update ${result.step}; ${result.path} can be gone on with (--resume).`);
      Deno.exitCode = EXIT_INTERRUPTED;
      return;
    }
    const weights = join(result.path, WEIGHTS_FILE);
    if (place.out !== undefined) await writeFileAtomic(place.out, await readBytes(weights));
    console.log(`averaged weights in ${place.out ?? weights}\nreport: ${join(result.path, "report.html")}`);
  } finally {
    await opened.dispose();
  }
}

/** Everything that a run is made from, open. */
async function optionsOf(
  flags: DiffusionFlags,
  device: DeviceName,
  opened: Opened,
): Promise<DiffusionRunOptions> {
  const sources = await openSources(flags, device, opened), { latents, decoder } = sources;
  const init = await readInitial(flags.init, latents.record),
    settings = settingsOf(flags, latents.record, init);
  const judge = await openJudge(flags, sources, settings.evaluation, device, opened);
  return { ...settings, latents, decoder, judge, init, name: nameOf(flags, latents.record) };
}

/** Name of a run: `dit-<size>-<space>-<data>`, as far as they are known. */
function nameOf({ size, init }: DiffusionFlags, latents: LatentsRecord): string {
  const data = latents.data.name === "latents" ? undefined : shortDataName(latents);
  const parts = ["dit", size ?? (init === undefined ? "micro" : undefined), latents.space, data];
  return parts.filter((part) => part !== undefined).join("-").replaceAll(/[^A-Za-z0-9.-]+/g, "-");
}
