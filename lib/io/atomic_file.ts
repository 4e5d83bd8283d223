/**
 * Files that are either the old or the new version, never half of one: written beside their place, flushed to the
 * disk and renamed.
 *
 * @module
 */
import { dirname } from "node:path";
import { NovaeError } from "novae/tensor/mod.ts";
import { fileError } from "./file_error.ts";

/** What a file is written from; chunks are written one after another without joining them in memory. */
export type FileContent = string | Uint8Array | Iterable<Uint8Array>;

/**
 * Writes a file so that, whatever happens, its place holds the old version or all of the new one.
 *
 * The bytes go to a temporary file in the same folder, which is flushed and renamed. If anything fails the temporary
 * file is removed and the old file stays as it was.
 *
 * @example
 * ```ts
 * import { writeFileAtomic } from "novae/io/mod.ts";
 * const path = await Deno.makeTempFile();
 * await writeFileAtomic(path, "new");
 * if (await Deno.readTextFile(path) !== "new") throw new Error("not written");
 * ```
 *
 * @param path where the file shall be; its folder must exist.
 * @throws NovaeError if it cannot be written: full disk, missing folder, no permission.
 */
export async function writeFileAtomic(path: string, content: FileContent): Promise<void> {
  await writeVia(temporaryName(path), path, content);
}

/** The same as {@link writeFileAtomic}, for places that cannot wait: signal handlers and exit. */
export function writeFileAtomicSync(path: string, content: FileContent): void {
  const temporary = temporaryName(path);
  try {
    const file = Deno.openSync(temporary, { write: true, create: true, truncate: true });
    try {
      for (const chunk of chunksOf(content)) {
        for (let done = 0; done < chunk.length;) done += file.writeSync(chunk.subarray(done));
      }
      file.syncSync();
    } finally {
      file.close();
    }
    Deno.renameSync(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    try {
      Deno.removeSync(temporary);
    } catch { /* it was never made */ }
    throw writeError(path, error);
  }
}

/** Writes a value as indented JSON with a final newline, atomically. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, JSON.stringify(value, null, 2) + "\n");
}

/** The same as {@link writeJson}, for places that cannot wait. */
export function writeJsonSync(path: string, value: unknown): void {
  writeFileAtomicSync(path, JSON.stringify(value, null, 2) + "\n");
}

/** Flushes a folder's list of names to the disk, so that a rename in it survives a power cut. */
export function syncFolder(path: string): void {
  if (Deno.build.os === "windows") return; // folders cannot be opened there; NTFS journals the rename itself
  const folder = Deno.openSync(path, { read: true });
  try {
    folder.syncSync();
  } finally {
    folder.close();
  }
}

/**
 * The same as {@link writeFileAtomic} for content that is made while it is written, or written out of order.
 *
 * @param fill writes the file; what it throws is thrown after the temporary file is removed.
 */
export async function fillFileAtomic(
  path: string,
  fill: (file: Deno.FsFile) => Promise<void>,
): Promise<void> {
  await fillVia(temporaryName(path), path, fill);
}

/** Writes all bytes where the file stands. */
export async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
}

/** {@link writeFileAtomic} with the temporary file's name given; tests put a full device there. */
export async function writeVia(temporary: string, path: string, content: FileContent): Promise<void> {
  await fillVia(temporary, path, async (file) => {
    for (const chunk of chunksOf(content)) await writeAll(file, chunk);
  });
}

async function fillVia(
  temporary: string,
  path: string,
  fill: (file: Deno.FsFile) => Promise<void>,
): Promise<void> {
  try {
    const file = await Deno.open(temporary, { write: true, create: true, truncate: true });
    try {
      await fill(file);
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(temporary, path);
    syncFolder(dirname(path));
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw writeError(path, error);
  }
}

function temporaryName(path: string): string {
  return `${path}.tmp-${crypto.randomUUID().slice(0, 8)}`; // workers share the process id
}

function writeError(path: string, error: unknown): Error {
  if ((error as { code?: string }).code !== "ENOENT") return fileError(`Cannot write ${path}`, error);
  return new NovaeError(`Cannot write ${path}: folder ${dirname(path)} does not exist`, { cause: error });
}

function chunksOf(content: FileContent): Iterable<Uint8Array> {
  if (typeof content === "string") return [new TextEncoder().encode(content)];
  return content instanceof Uint8Array ? [content] : content;
}
