/**
 * Seeded damage to files, and what their readers may do with it: give a value or one of the project's errors, in
 * bounded time and memory.
 */
import assert from "node:assert/strict";
import { NovaeError, Rng } from "novae/tensor/mod.ts";

/** A reader and what it is tried on. */
export interface FuzzTarget {
  readonly name: string;
  /** Number of inputs. */
  readonly count: number;
  /** Sound inputs, which are damaged. */
  readonly seeds: readonly Uint8Array<ArrayBuffer>[];
  /** Pieces that mean something to the reader. */
  readonly tokens?: readonly (string | readonly number[])[];
  /** Reads an input; awaited. */
  read(bytes: Uint8Array<ArrayBuffer>, index: number): unknown;
}

/** What came of a target. */
export interface FuzzOutcome {
  read: number;
  refused: number;
  slowestMs: number;
  /** The most bytes of typed arrays that were made for one input beyond ten times its size. */
  excessBytes: number;
  /** Kinds of refusals: messages without what differs from file to file. */
  readonly reasons: Set<string>;
}

/** An input may take this long, pauses of a busy machine included. */
export const SLOWEST_MS = 2_000;

/** Small files may need more than ten times their size, but no more than the readers' least limit a few times over. */
export const EXCESS_BYTES = 4 << 20;

/** Tries a reader on damaged inputs, the same ones each time. */
export async function fuzz(target: FuzzTarget, seed = 1): Promise<FuzzOutcome> {
  const rng = new Rng(seed).split(target.name), allocations = new Allocations();
  const outcome: FuzzOutcome = { read: 0, refused: 0, slowestMs: 0, excessBytes: 0, reasons: new Set() };
  try {
    for (let i = 0; i < target.count; i++) {
      const bytes = damaged(rng, target), before = allocations.bytes, start = performance.now();
      try {
        await target.read(bytes.slice(), i);
        outcome.read++;
      } catch (error) {
        expectTold(error, target.name, bytes);
        outcome.refused++;
        outcome.reasons.add((error as Error).message.replace(/".*"|[\d.]+|got .*/g, "…").slice(0, 80));
      }
      outcome.slowestMs = Math.max(outcome.slowestMs, performance.now() - start);
      outcome.excessBytes = Math.max(outcome.excessBytes, allocations.bytes - before - 10 * bytes.length);
    }
  } finally {
    allocations.end();
  }
  return outcome;
}

function expectTold(error: unknown, name: string, bytes: Uint8Array): void {
  const input = bytes.length < 4096 ? bytes.toBase64() : `${bytes.length} bytes`;
  assert.ok(error instanceof NovaeError, `${name}: ${(error as Error).stack}\n${input}`);
  assert.ok(
    !/[\n\r]/.test(error.message) && error.message.length < 2000,
    `${name}: ${error.message}\n${input}`,
  );
}

const NUMBERS = [
  0,
  1,
  2,
  3,
  7,
  8,
  16,
  64,
  127,
  128,
  255,
  256,
  32767,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
];

function damaged(rng: Rng, { seeds, tokens = [] }: FuzzTarget): Uint8Array<ArrayBuffer> {
  let bytes = seeds[rng.int(seeds.length)].slice();
  for (let times = rng.int(4) === 0 ? 1 + rng.int(12) : 1 + rng.int(2); times > 0; times--) {
    const at = rng.int(bytes.length + 1), length = Math.min(bytes.length - at, 1 + rng.int(1 << rng.int(9)));
    const rest = bytes.subarray(at + length), start = bytes.subarray(0, at);
    switch (rng.int(tokens.length > 0 ? 9 : 8)) {
      case 0: // a bit
        if (at < bytes.length) bytes[at] ^= 1 << rng.int(8);
        break;
      case 1: // a byte
        if (at < bytes.length) bytes[at] = rng.int(256);
        break;
      case 2: // a number
        putNumber(rng, bytes, at);
        break;
      case 3: // a part is gone
        bytes = joined(start, rest);
        break;
      case 4: // a part is there twice
        bytes = joined(start, bytes.subarray(at, at + length), bytes.subarray(at));
        break;
      case 5: // the end is gone
        if (rng.int(4) === 0) bytes = bytes.slice(0, at);
        break;
      case 6: { // a part of another one
        const other = seeds[rng.int(seeds.length)], from = rng.int(other.length + 1);
        bytes = joined(start, other.subarray(from, from + length), rest);
        break;
      }
      case 7: // noise
        for (let i = at; i < at + Math.min(length, 8); i++) bytes[i] = rng.int(256);
        break;
      default: {
        const token = tokens[rng.int(tokens.length)];
        const put = typeof token === "string" ? new TextEncoder().encode(token) : Uint8Array.from(token);
        bytes = joined(start, put, rng.int(2) === 0 ? rest : bytes.subarray(at));
      }
    }
  }
  return bytes;
}

function putNumber(rng: Rng, bytes: Uint8Array, at: number): void {
  const width = 1 << rng.int(4), number = NUMBERS[rng.int(NUMBERS.length)];
  for (let i = 0; i < width && at + i < bytes.length; i++) {
    bytes[at + i] = Math.floor(number / 256 ** i) % 256;
  }
}

function joined(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const KINDS = [
  "Uint8Array",
  "Int8Array",
  "Uint16Array",
  "Int16Array",
  "Uint32Array",
  "Int32Array",
  "Float16Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
  "ArrayBuffer",
] as const;

/** Counts the bytes of all typed arrays that are made, by standing in for their constructors and `slice`. */
class Allocations {
  bytes = 0;
  readonly #undo: (() => void)[] = [];

  constructor() {
    const count = (bytes: number): void => void (this.bytes += bytes);
    for (const kind of KINDS) {
      // deno-lint-ignore no-explicit-any -- any of the constructors, whatever it takes
      const real = (globalThis as any)[kind];
      const counting = new Proxy(real, {
        construct(target, args, self) {
          const made = Reflect.construct(target, args, self);
          if (!(args[0] instanceof ArrayBuffer)) count(made.byteLength);
          return made;
        },
      });
      Object.assign(globalThis, { [kind]: counting });
      const { slice } = real.prototype, own = Object.hasOwn(real.prototype, "slice");
      real.prototype.slice = function (...args: unknown[]) {
        const made = slice.apply(this, args);
        count(made.byteLength);
        return made;
      };
      this.#undo.push(() => {
        Object.assign(globalThis, { [kind]: real });
        if (own) real.prototype.slice = slice;
        else delete real.prototype.slice;
      });
    }
  }

  end(): void {
    for (const undo of this.#undo) undo();
  }
}
