/**
 * Python's pickles, interpreted without running anything: classes and functions are names, and a call of one is handed
 * to a host that makes a value of it.
 *
 * *Source*: CPython's `pickletools` (the instructions of protocols 2 to 5). *Differs*: the textual instructions of
 * protocols 0 and 1, the extension registry and out-of-band buffers are refused.
 *
 * @module
 */
import { PickleGlobal, PickleObject, type PickleValue } from "./pickle_values.ts";

/** What the instructions that would run Python are given to. */
export interface PickleHost {
  /** The value of a call, or of an object of a class. */
  call(callee: PickleGlobal, args: PickleValue[]): PickleValue;
  /** The value that lies outside of the pickle under a name. */
  persistent(id: PickleValue): PickleValue;
  /** Gives a value its state. */
  build(target: PickleValue, state: PickleValue): void;
  /** Makes the error for a pickle that cannot be read. */
  fail(why: string): Error;
}

/** More than any weights need; bounds memory and time that a hostile file can cost. */
const INSTRUCTION_LIMIT = 1 << 22;
const LONG_BYTES_LIMIT = 4096;

/** Modules and functions that weights never need, and hostile files do. None could run; they are refused by name. */
const FORBIDDEN_MODULES =
  /^(os|posix|nt|subprocess|pty|socket|shutil|sys|importlib|runpy|ctypes|webbrowser|code|codeop|pdb|bdb|asyncio|multiprocessing|signal)(\.|$)/;
const FORBIDDEN_BUILTINS = /^(eval|exec|execfile|compile|__import__|open|input|breakpoint|exit)$/;

/**
 * Interprets a pickle.
 *
 * @param bytes the pickle; what follows its end is left alone.
 * @throws what the host's `fail` makes, if it is truncated, damaged or wants something forbidden.
 */
export function loadPickle(bytes: Uint8Array, host: PickleHost): PickleValue {
  const machine = new Machine(bytes, host);
  for (let i = 0; i < INSTRUCTION_LIMIT; i++) {
    const at = machine.at, code = machine.uint(1);
    if (code === 0x2e) return machine.pop(); // STOP
    const instruction = INSTRUCTIONS.get(code);
    if (instruction === undefined) {
      throw host.fail(
        `its pickle must be of protocols 2 to 5, got instruction 0x${code.toString(16)} at byte ${at}`,
      );
    }
    instruction(machine);
  }
  throw host.fail(`its pickle must have at most ${INSTRUCTION_LIMIT} instructions, got more`);
}

class Machine {
  at = 0;
  readonly host: PickleHost;
  readonly memo: Map<number, PickleValue> = new Map();
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];

  constructor(bytes: Uint8Array, host: PickleHost) {
    this.host = host;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  push(value: PickleValue): void {
    this.#stack.push(value);
  }

  /** Takes the topmost value; those below a mark are out of reach, as they are for Python. */
  pop(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.broken("a value is missing");
    return this.#stack.pop() as PickleValue;
  }

  top(): PickleValue {
    const value = this.pop();
    this.push(value);
    return value;
  }

  mark(): void {
    this.#marks.push(this.#stack.length);
  }

  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.broken("a mark is missing");
    return this.#stack.splice(mark);
  }

  popOrMark(): void {
    if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.pop();
  }

  popTuple(): PickleValue[] {
    const args = this.pop();
    if (!Array.isArray(args)) throw this.broken("arguments must be a tuple");
    return args;
  }

  get(index: number): void {
    const value = this.memo.get(index);
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

  int32(): number {
    return this.#view.getInt32(this.skip(4), true);
  }

  float(): number {
    return this.#view.getFloat64(this.skip(8)); // the one big-endian number of the format
  }

  /** The next `length` bytes, copied. */
  take(length: number): Uint8Array {
    const at = this.skip(length);
    return this.#bytes.slice(at, at + length);
  }

  text(length: number): string {
    try {
      const at = this.skip(length), part = this.#bytes.subarray(at, at + length);
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
    } catch (error) {
      if (error instanceof TypeError) throw this.broken("a text must be UTF-8");
      throw error;
    }
  }

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
    let hex = "";
    for (const byte of this.take(length)) hex = byte.toString(16).padStart(2, "0") + hex;
    const value = hex === "" ? 0n : BigInt.asIntN(length * 8, BigInt(`0x${hex}`));
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }

  broken(why: string): Error {
    return this.host.fail(`its pickle is damaged: ${why} at byte ${this.at}`);
  }

  skip(length: number): number {
    const at = this.at;
    if (length > this.#bytes.length - at) throw this.broken("it is truncated");
    this.at += length;
    return at;
  }
}

/** Instructions by their code. */
const INSTRUCTIONS: ReadonlyMap<number, (m: Machine) => void> = new Map<number, (m: Machine) => void>([
  [0x80, (m) => protocol(m)],
  [0x95, (m) => frame(m)],
  [0x30, (m) => m.popOrMark()],
  [0x31, (m) => void m.popToMark()],
  [0x32, (m) => m.push(m.top())],
  [0x28, (m) => m.mark()],
  [0x4e, (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  [0x4a, (m) => m.push(m.int32())],
  [0x4b, (m) => m.push(m.uint(1))],
  [0x4d, (m) => m.push(m.uint(2))],
  [0x8a, (m) => m.push(m.long(m.uint(1)))],
  [0x8b, (m) => m.push(m.long(m.uint(4)))],
  [0x47, (m) => m.push(m.float())],
  [0x58, (m) => m.push(m.text(m.uint(4)))],
  [0x8c, (m) => m.push(m.text(m.uint(1)))],
  [0x8d, (m) => m.push(m.text(m.uint(8)))],
  [0x42, (m) => m.push(m.take(m.uint(4)))],
  [0x43, (m) => m.push(m.take(m.uint(1)))],
  [0x8e, (m) => m.push(m.take(m.uint(8)))],
  [0x96, (m) => m.push(m.take(m.uint(8)))],
  [0x5d, (m) => m.push([])],
  [0x29, (m) => m.push([])],
  [0x7d, (m) => m.push(new Map())],
  [0x8f, (m) => m.push(new Set())],
  [0x61, (m) => append(m, [m.pop()])],
  [0x65, (m) => append(m, m.popToMark())],
  [0x90, (m) => append(m, m.popToMark())],
  [0x73, (m) => setItems(m, [m.pop(), m.pop()].reverse())],
  [0x75, (m) => setItems(m, m.popToMark())],
  [0x6c, (m) => m.push(m.popToMark())],
  [0x74, (m) => m.push(m.popToMark())],
  [0x64, (m) => dictionary(m)],
  [0x91, (m) => m.push(new Set(m.popToMark()))],
  [0x85, (m) => m.push([m.pop()])],
  [0x86, (m) => m.push([m.pop(), m.pop()].reverse())],
  [0x87, (m) => m.push([m.pop(), m.pop(), m.pop()].reverse())],
  [0x68, (m) => m.get(m.uint(1))],
  [0x6a, (m) => m.get(m.uint(4))],
  [0x71, (m) => void m.memo.set(m.uint(1), m.top())],
  [0x72, (m) => void m.memo.set(m.uint(4), m.top())],
  [0x94, (m) => void m.memo.set(m.memo.size, m.top())],
  [0x63, (m) => global(m, m.line(), m.line())],
  [0x93, (m) => stackGlobal(m)],
  [0x52, (m) => call(m, m.popTuple())],
  [0x81, (m) => call(m, m.popTuple())],
  [0x92, (m) => callWithKeywords(m)],
  [0x62, (m) => build(m)],
  [0x51, (m) => m.push(m.host.persistent(m.pop()))],
]);

function protocol(m: Machine): void {
  const version = m.uint(1);
  if (version < 2 || version > 5) throw m.host.fail(`its pickle must be of protocols 2 to 5, got ${version}`);
}

function frame(m: Machine): void {
  const length = m.uint(8), at = m.at;
  m.skip(length); // throws if it reaches beyond the end
  m.at = at;
}

function append(m: Machine, values: PickleValue[]): void {
  const target = m.top();
  if (target instanceof Set) { for (const value of values) target.add(value); }
  else {
    const list = target instanceof PickleObject ? target.elements : target;
    if (!Array.isArray(list)) throw m.broken("only lists and sets can be added to");
    for (const value of values) list.push(value);
  }
}

function dictionary(m: Machine): void {
  const entries = m.popToMark();
  m.push(new Map());
  setItems(m, entries);
}

function setItems(m: Machine, entries: PickleValue[]): void {
  const target = m.top(), map = target instanceof PickleObject ? target.items : target;
  if (!(map instanceof Map) || entries.length % 2 > 0) throw m.broken("only dictionaries have entries");
  for (let i = 0; i < entries.length; i += 2) map.set(entries[i], entries[i + 1]);
}

function global(m: Machine, module: string, name: string): void {
  const builtin = /^(builtins|__builtin__|_?io)$/.test(module);
  if (FORBIDDEN_MODULES.test(module) || (builtin && FORBIDDEN_BUILTINS.test(name))) {
    throw m.host.fail(
      `its pickle asks for ${module}.${name}, which no weights need: the file may be hostile`,
    );
  }
  m.push(new PickleGlobal(module, name));
}

function stackGlobal(m: Machine): void {
  const name = m.pop(), module = m.pop();
  if (typeof name !== "string" || typeof module !== "string") throw m.broken("a class must be named by text");
  global(m, module, name);
}

function call(m: Machine, args: PickleValue[]): void {
  const callee = m.pop();
  if (callee instanceof PickleGlobal) m.push(m.host.call(callee, args));
  else if (callee instanceof PickleObject) m.push(new PickleObject(`${callee.type}(…)`, args));
  else throw m.broken("only classes and functions can be called");
}

function callWithKeywords(m: Machine): void {
  const keywords = m.pop(), args = m.popTuple();
  call(m, keywords instanceof Map && keywords.size === 0 ? args : [...args, keywords]);
}

function build(m: Machine): void {
  const state = m.pop();
  m.host.build(m.top(), state);
}
