/**
 * Measurements over the course of a run, one JSON object a line.
 *
 * @module
 */
import { DataError } from "novae/tensor/mod.ts";
import { fileError, readBytes, writeFileAtomicSync } from "novae/io/mod.ts";

/** One line of a metrics file. Numbers that are not finite are stored as null. */
export type MetricsRecord = Readonly<Record<string, unknown>>;

/**
 * An append-only file of records. A line that a killed process left half-written is dropped when the file is opened
 * again, and a line that a full disk cut short is taken back at once.
 */
export class MetricsLog {
  /** The file. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /**
   * Opens or makes a metrics file and drops a half-written last line.
   *
   * @throws NovaeError if it cannot be read or written.
   */
  static open(path: string): MetricsLog {
    try {
      using file = Deno.openSync(path, { read: true, write: true, create: true });
      const { size } = file.statSync();
      const end = lastNewline(file, size);
      if (end !== size) file.truncateSync(end);
    } catch (error) {
      throw fileError(`Cannot open ${path}`, error);
    }
    return new MetricsLog(path);
  }

  /**
   * Appends a record.
   *
   * @throws NovaeError if the disk is full; the file is as before then.
   */
  append(record: MetricsRecord): void {
    appendLine(this.path, JSON.stringify(record));
  }

  /**
   * All records, oldest first.
   *
   * @throws DataError if a line is no JSON object; the message names the line.
   */
  async read(): Promise<MetricsRecord[]> {
    return parseLines(new TextDecoder().decode(await readBytes(this.path)), this.path);
  }

  /**
   * Drops the records for which `keep` is false, atomically: after resuming from a checkpoint, those of later steps
   * would come twice.
   *
   * @returns how many were dropped.
   */
  async retain(keep: (record: MetricsRecord) => boolean): Promise<number> {
    const records = await this.read(), kept = records.filter(keep);
    if (kept.length < records.length) {
      writeFileAtomicSync(this.path, kept.map((record) => JSON.stringify(record) + "\n").join(""));
    }
    return records.length - kept.length;
  }
}

/** Appends a line to a file; if the disk is full, what was written of it is taken back and the error told. */
export function appendLine(path: string, line: string): void {
  try {
    using file = Deno.openSync(path, { write: true, create: true });
    const start = file.seekSync(0, Deno.SeekMode.End), bytes = new TextEncoder().encode(line + "\n");
    try {
      for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
    } catch (error) {
      if (file.statSync().isFile) file.truncateSync(start);
      throw error;
    }
  } catch (error) {
    throw fileError(`Cannot write ${path}`, error);
  }
}

function parseLines(text: string, path: string): MetricsRecord[] {
  const lines = text.split("\n");
  lines.pop(); // after the last newline: nothing, or a line that another process is writing
  return lines.map((line, i) => {
    try {
      const record: unknown = JSON.parse(line);
      if (typeof record === "object" && record !== null) return record as MetricsRecord;
    } catch { /* told below */ }
    throw new DataError(`Cannot read ${path}: line ${i + 1} must be a JSON object, got ${line.slice(0, 60)}`);
  });
}

/** The place after the last newline, 0 if there is none. */
function lastNewline(file: Deno.FsFile, size: number): number {
  const piece = new Uint8Array(4096);
  for (let end = size; end > 0;) {
    const start = Math.max(0, end - piece.length);
    file.seekSync(start, Deno.SeekMode.Start);
    const got = file.readSync(piece.subarray(0, end - start)) ?? 0;
    const found = piece.subarray(0, got).lastIndexOf(0x0a);
    if (found >= 0) return start + found + 1;
    end = start;
  }
  return 0;
}
