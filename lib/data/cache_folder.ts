/**
 * Where things are kept that can be made again.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The folder for caches: the environment variable `NOVAE_CACHE`, else `.cache/novae` in the project's folder (in the
 * working directory if the library was not loaded from files).
 */
export function cacheFolder(): string {
  const named = Deno.env.get("NOVAE_CACHE");
  if (named) return named;
  const here = new URL("../../", import.meta.url);
  return join(here.protocol === "file:" ? fileURLToPath(here) : Deno.cwd(), ".cache", "novae");
}
