/** Run by experiment_stages_test.ts on a pseudo-terminal: one stage with a bar, and a second that is interrupted. */
import { RunFolder, StageRunner, superviseRun } from "novae/experiment/mod.ts";

const device = { device: "cpu", reason: "asked for" };
const run = await RunFolder.create({
  root: Deno.args[0],
  name: "bar",
  config: {},
  configInput: {},
  seed: 0,
  device,
});
const stages = new StageRunner(run);
await superviseRun(run, async () => {
  await stages.stage("one", "One", (stage) => stage.update(1, 4, "loss 0.5"));
  await stages.stage("two", "Two", async () => {
    Deno.kill(Deno.pid, "SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 20_000));
  });
}, () => stages.clear());
