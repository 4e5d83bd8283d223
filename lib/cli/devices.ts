/**
 * `novae devices`: what `auto` would take, and why.
 *
 * @module
 */
import type { Command } from "commander";
import { resolveDevice } from "novae/engine/mod.ts";

/** Adds the command to the program. */
export function registerDevices(program: Command): void {
  program.command("devices")
    .description("say which device `auto` takes on this machine, and why")
    .action(async () => {
      const { device, reason } = await resolveDevice("auto");
      console.log(`auto takes ${device}: ${reason}`);
    });
}
