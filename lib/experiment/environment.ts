/**
 * What a run ran on: versions, machine, device, seed and the state of the source code.
 *
 * @module
 */
import os from "node:os";
import { fileURLToPath } from "node:url";
import project from "../../deno.json" with { type: "json" };

/** The state of the source code's git checkout. */
export interface GitState {
  /** Full hash of the commit; null without git or outside a checkout. */
  readonly commit: string | null;
  /** Whether files differ from the commit; null if unknown. */
  readonly dirty: boolean | null;
  /** Files that git does not know and does not ignore, at most 50. */
  readonly untracked: readonly string[];
  /** Why nothing is known, null otherwise. */
  readonly reason: string | null;
}

/** The device that a run uses and why. */
export interface DeviceChoice {
  /** Name, e.g. "cpu". */
  readonly device: string;
  /** Why this one, e.g. "asked for". */
  readonly reason: string;
}

/** What `env.json` of a run folder holds. */
export interface Environment {
  /** When the run, or its resumption, began (ISO 8601). */
  readonly created: string;
  /** Version of this project. */
  readonly version: string;
  /** Versions of Deno, V8 and TypeScript. */
  readonly deno: Readonly<Record<string, string>>;
  /** Versions of the packages, by name. */
  readonly packages: Readonly<Record<string, string>>;
  /** Operating system and its release, e.g. "linux x86_64 6.1.0". */
  readonly os: string;
  /** Processor model. */
  readonly cpu: string;
  /** Logical processors that may be used. */
  readonly cores: number;
  /** Main memory in bytes. */
  readonly memoryBytes: number;
  /** Device and why. */
  readonly device: DeviceChoice;
  /** Seed of all randomness. */
  readonly seed: number;
  /** Arguments of the command. */
  readonly argv: readonly string[];
  /** Source code. */
  readonly git: GitState;
}

/** Describes this machine and process. The result holds no names of people or machines. */
export async function describeEnvironment(
  device: DeviceChoice,
  seed: number,
  argv: readonly string[] = Deno.args,
): Promise<Environment> {
  return {
    created: new Date().toISOString(),
    version: project.version,
    deno: { ...Deno.version },
    packages: packageVersions(project.imports),
    os: `${Deno.build.os} ${Deno.build.arch} ${Deno.osRelease()}`,
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: navigator.hardwareConcurrency,
    memoryBytes: Deno.systemMemoryInfo().total,
    device,
    seed,
    argv: [...argv],
    git: await gitState(),
  };
}

/** The changes of tracked source files against the commit, as a patch; empty if there are none or git is absent. */
export async function sourceDiff(): Promise<string> {
  return (await git("diff", "HEAD")).output ?? "";
}

async function gitState(): Promise<GitState> {
  const commit = await git("rev-parse", "HEAD");
  if (commit.output === null) return { commit: null, dirty: null, untracked: [], reason: commit.reason };
  const status = await git("status", "--porcelain", "--untracked-files=all");
  const lines = (status.output ?? "").split("\n").filter((line) => line !== "");
  const untracked = lines.filter((line) => line.startsWith("??")).map((line) => line.slice(3)).slice(0, 50);
  const dirty = status.output === null ? null : lines.length > 0;
  return { commit: commit.output.trim(), dirty, untracked, reason: status.reason };
}

async function git(...args: string[]): Promise<{ output: string | null; reason: string | null }> {
  const here = import.meta.url;
  if (!here.startsWith("file:")) return { output: null, reason: "the source code is not in a folder" };
  const cwd = fileURLToPath(new URL("../../", here));
  try {
    const command = new Deno.Command("git", { args, cwd, stdin: "null", stdout: "piped", stderr: "piped" });
    const { success, stdout, stderr } = await command.output();
    if (success) return { output: new TextDecoder().decode(stdout), reason: null };
    return { output: null, reason: new TextDecoder().decode(stderr).trim().split("\n")[0] };
  } catch {
    return { output: null, reason: "git cannot be run" };
  }
}

function packageVersions(imports: Readonly<Record<string, string>>): Record<string, string> {
  const pinned = Object.entries(imports).map((
    [name, target],
  ) => [name, /^npm:.+@([^@/]+)$/.exec(target)?.[1]]);
  return Object.fromEntries(pinned.filter(([, version]) => version !== undefined));
}
