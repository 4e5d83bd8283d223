/** Run by experiment_run_folder_test.ts: starts a run, leaves half a line of metrics and waits to be stopped. */
import { RunFolder, superviseRun } from "novae/experiment/mod.ts";

const device = { device: "cpu", reason: "asked for" };
const run = await RunFolder.create({
  root: Deno.args[0],
  name: "child",
  config: {},
  configInput: {},
  seed: 0,
  device,
});
await superviseRun(run, async () => {
  run.metrics.append({ step: 1 });
  Deno.writeTextFileSync(run.metrics.path, '{"step": 2, "lo', { append: true });
  console.log("ready");
  await new Promise((resolve) => setTimeout(resolve, 60_000));
});
