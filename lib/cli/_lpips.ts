import { type Command, Option } from "commander";
import { ConfigError } from "novae/tensor/mod.ts";
import { loadLpips, type Lpips, lpipsFilesAt, type LpipsNetwork } from "novae/autoencoder/mod.ts";

/** What names LPIPS. */
export interface LpipsOptions {
  lpips?: string;
  lpipsNetwork?: LpipsNetwork;
}

/** Networks that `--lpips-network` can name; the first is meant if it is omitted. */
const NETWORKS: readonly LpipsNetwork[] = ["vgg16", "alexnet"];

/** Adds the options that name LPIPS. */
export function addLpipsOptions(command: Command, purpose: string): Command {
  return command
    .option("--lpips <path>", `${purpose}: a folder of its published files, or a checkpoint that holds it`)
    .addOption(
      new Option("--lpips-network <name>", `trunk of LPIPS; ${NETWORKS[0]} if omitted`).choices(NETWORKS),
    );
}

/**
 * Where LPIPS lies and which it is; undefined if it was not asked for.
 *
 * @param what the first half of a message, e.g. "Cannot measure reconstructions".
 * @throws ConfigError if a network is named without its files.
 */
export function lpipsOf(
  what: string,
  { lpips, lpipsNetwork }: LpipsOptions,
): { readonly path: string; readonly network: LpipsNetwork } | undefined {
  if (lpips !== undefined) return { path: lpips, network: lpipsNetwork ?? NETWORKS[0] };
  if (lpipsNetwork === undefined) return undefined;
  throw new ConfigError(`${what}: --lpips must name the files of LPIPS (${lpipsNetwork}), got none`);
}

/**
 * Reads LPIPS if it was asked for.
 *
 * @throws ConfigError as {@linkcode lpipsOf}; WeightsError if its files are missing or damaged.
 */
export async function openLpips(what: string, options: LpipsOptions): Promise<Lpips | undefined> {
  const wanted = lpipsOf(what, options);
  return wanted && await loadLpips(wanted.network, await lpipsFilesAt(wanted.path, wanted.network));
}
