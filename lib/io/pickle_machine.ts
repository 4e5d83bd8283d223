/**
 * The machine that pickles are instructions for: a stack with marks and a memory of values by number.
 *
 * @module
 */
import type { MemoryBudget } from "./memory_limit.ts";
import type { PickleGlobal, PickleValue } from "./pickle_values.ts";

const LONG_BYTES_LIMIT = 4096;

/**
 * Bytes that V8 needs for an empty list, dictionary or set, an object of an unknown class, what a
 * known call makes, the name of a class, a place
 * in a list and an entry of a dictionary.
 */
export const LIST_BYTES = 168,
  MAP_BYTES = 192,
  SET_BYTES = 160,
  OBJECT_BYTES = 640,
  CALL_BYTES = 240,
  GLOBAL_BYTES = 48,
  PLACE_BYTES = 16,
  ENTRY_BYTES = 64;
const TEXT_BYTES = 32, BUFFER_BYTES = 192;

/** What the instructions that would run Python are given to. */
export interface PickleHost {
  /** The value of a call, or of an object of a class. */
  call(callee: PickleGlobal, args: PickleValue[]): PickleValue;
  /** The value that lies outside of the pickle under a name. */
  persistent(id: PickleValue): PickleValue;
  /** Gives a value its state. */
  build(target: PickleValue, state: PickleValue): void;
  /** Whether a class or function may be named; what is not known is refused before anything is made of it. */
  isKnown(named: PickleGlobal): boolean;
  /** Makes the error for a pickle that cannot be read. */
  fail(why: string): Error;
  /** What the values may need. */
  readonly memory: MemoryBudget;
}

/** Stack, memory and place in the bytes while a pickle is interpreted. */
export class PickleMachine {
  /** The place in the bytes. */
  at = 0;
  /** What makes values of calls. */
  readonly host: PickleHost;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #stack: PickleValue[] = [];
  /** Values that are referred to again, by number; picklers number them in turn. */
  readonly #memo: PickleValue[] = [];
  readonly #scattered = new Map<number, PickleValue>();
  #highest = 0;
  readonly #marks: number[] = [];

  /** Before the first instruction. */
  constructor(bytes: Uint8Array, host: PickleHost) {
    this.host = host;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Puts a value on top. */
  push(value: PickleValue): void {
    if (this.#stack.push(value) <= this.#highest) return;
    this.#highest++;
    this.host.memory.take(PLACE_BYTES);
  }

  /** Pushes a value that needs memory of its own. */
  pushNew(bytes: number, value: PickleValue): void {
    this.host.memory.take(bytes);
    this.push(value);
  }

  /** Pushes a tuple. */
  pushTuple(items: PickleValue[]): void {
    this.pushNew(LIST_BYTES / 3 + items.length * PLACE_BYTES / 2, items);
  }

  /** Keeps the topmost value under a number; under the next one if none is given. */
  remember(index: number = this.#memo.length + this.#scattered.size): void {
    const value = this.top();
    if (index < this.#memo.length) this.#memo[index] = value;
    else if (index === this.#memo.length) {
      this.host.memory.take(PLACE_BYTES);
      this.#memo.push(value);
      this.#scattered.delete(index);
    } else {
      this.host.memory.take(ENTRY_BYTES);
      this.#scattered.set(index, value);
    }
  }

  /** Takes the topmost value; those below a mark are out of reach, as they are for Python. */
  pop(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.broken("a value is missing");
    return this.#stack.pop() as PickleValue;
  }

  /** The topmost value, which stays. */
  top(): PickleValue {
    const value = this.pop();
    this.push(value);
    return value;
  }

  /** Marks the place on top. */
  mark(): void {
    this.host.memory.take(PLACE_BYTES / 2);
    this.#marks.push(this.#stack.length);
  }

  /** Takes all values above the last mark, and the mark. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.broken("a mark is missing");
    return this.#stack.splice(mark);
  }

  /** Takes the topmost value or mark. */
  popOrMark(): void {
    if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.pop();
  }

  /** Takes a tuple. */
  popTuple(): PickleValue[] {
    const args = this.pop();
    if (!Array.isArray(args)) throw this.broken("arguments must be a tuple");
    return args;
  }

  /** Pushes a value that was kept. */
  get(index: number): void {
    const value = index < this.#memo.length ? this.#memo[index] : this.#scattered.get(index);
    if (value === undefined) throw this.broken(`value ${index} is missing`);
    this.push(value);
  }

  /** The next unsigned little-endian number of 1, 2, 4 or 8 bytes. */
  uint(width: 1 | 2 | 4 | 8): number {
    const at = this.skip(width), view = this.#view;
    if (width === 1) return view.getUint8(at);
    if (width === 2) return view.getUint16(at, true);
    return width === 4 ? view.getUint32(at, true) : Number(view.getBigUint64(at, true));
  }

  /** The next signed number of 4 bytes. */
  int32(): number {
    return this.#view.getInt32(this.skip(4), true);
  }

  /** The next number of 8 bytes. */
  float(): number {
    return this.#view.getFloat64(this.skip(8)); // the one big-endian number of the format
  }

  /** The next `length` bytes, copied. */
  take(length: number): Uint8Array {
    const at = this.skip(length);
    this.host.memory.take(BUFFER_BYTES + length);
    return this.#bytes.slice(at, at + length);
  }

  /** The next `length` bytes as text. */
  text(length: number): string {
    try {
      const at = this.skip(length), part = this.#bytes.subarray(at, at + length);
      this.host.memory.take(TEXT_BYTES + 2 * length);
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
    } catch (error) {
      if (error instanceof TypeError) throw this.broken("a text must be UTF-8");
      throw error;
    }
  }

  /** The text up to the end of the line. */
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.at);
    if (end < 0) throw this.broken("a line has no end");
    const text = this.text(end - this.at);
    this.at++;
    return text;
  }

  /** A signed little-endian integer of any length. */
  long(length: number): number | bigint {
    if (length > LONG_BYTES_LIMIT) {
      throw this.broken(`an integer must be of at most ${LONG_BYTES_LIMIT} bytes`);
    }
    const at = this.skip(length), hex = this.#bytes.slice(at, at + length).reverse().toHex();
    this.host.memory.take(length + PLACE_BYTES);
    const value = hex === "" ? 0n : BigInt.asIntN(length * 8, BigInt(`0x${hex}`));
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  /** The error for what is damaged here. */
  broken(why: string): Error {
    return this.host.fail(`its pickle is damaged: ${why} at byte ${this.at}`);
  }

  /** Goes on by `length` bytes, which must be there, and says where they begin. */
  skip(length: number): number {
    const at = this.at;
    if (length > this.#bytes.length - at) throw this.broken("it is truncated");
    this.at += length;
    return at;
  }
}
