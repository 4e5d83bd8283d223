/**
 * Whether a process of this project is still there.
 *
 * @module
 */
import process from "node:process";

/**
 * Whether a process of this machine with the given number exists and may be one of this project's. The number of a
 * killed one may have gone to another program since, which is seen on Linux.
 */
export function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 only asks whether the process exists
  } catch (error) {
    return (error as { code?: string }).code === "EPERM"; // it exists and is someone else's
  }
  return !isOtherProgram(pid);
}

function isOtherProgram(pid: number): boolean {
  if (Deno.build.os !== "linux") return false;
  try {
    return !Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("deno");
  } catch {
    return false;
  }
}
