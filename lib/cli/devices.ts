/**
 * `novae devices`: which devices work here, and which one `auto` takes.
 *
 * @module
 */
import type { Command } from "commander";
import { probeDevices, resolveDevice } from "novae/engine/mod.ts";
import { TextTable } from "novae/experiment/mod.ts";

/** Adds the command to the program. */
export function registerDevices(program: Command): void {
  program.command("devices")
    .description("run a small graph on every device, and say which works, which not and why")
    .action(async () => {
      const table = new TextTable(["device", "works", "what it is, or why not"]);
      for (const { device, works, detail } of await probeDevices()) {
        table.add(device, works ? "yes" : "no", detail);
      }
      const { device, reason } = await resolveDevice("auto");
      console.log(`${table.toString()}\n\nauto takes ${device}: ${reason}`);
    });
}
