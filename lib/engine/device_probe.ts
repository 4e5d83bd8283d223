/**
 * Finds out which devices work on this machine, by running a small graph with its gradient on each.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { type CompiledDevice, DEVICES, type EagerDevice } from "./device.ts";

/** What was found out about a device. */
export interface DeviceReport {
  /** The device. */
  readonly device: CompiledDevice | EagerDevice;
  /** Whether the graph ran and its numbers were right. */
  readonly works: boolean;
  /** What it is, or why it does not work, in one line. */
  readonly detail: string;
}

/** Seconds after which a device counts as hanging. */
const LIMIT_SEC = 60;

/**
 * Tries every device in a process of its own, since a driver that fails may take its process with it.
 *
 * @param devices which to try; all of them by default.
 */
export async function probeDevices(devices: readonly string[] = DEVICES): Promise<DeviceReport[]> {
  const reports: DeviceReport[] = [];
  // One after the other: two drivers that start at once may both fail for want of memory.
  for (const device of devices) reports.push(await probe(device as DeviceReport["device"]));
  return reports;
}

async function probe(device: DeviceReport["device"]): Promise<DeviceReport> {
  const worker = fileURLToPath(import.meta.resolve("./device_probe_worker.ts"));
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--unstable-webgpu", worker, device],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => process.kill("SIGKILL"), LIMIT_SEC * 1000);
  const { success, signal, stdout, stderr } = await process.output();
  clearTimeout(timer);
  const answer = new TextDecoder().decode(stdout).trim().split("\n").findLast((line) => line.startsWith("{"));
  if (success && answer) return { device, ...JSON.parse(answer) };
  const last = new TextDecoder().decode(stderr).trim().split("\n").at(-1) ?? "";
  const reason = signal === "SIGKILL"
    ? `no answer within ${LIMIT_SEC} s`
    : signal
    ? `its driver ended the process (${signal})`
    : last;
  return { device, works: false, detail: reason };
}
