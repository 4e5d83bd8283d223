/**
 * Python's pickles, interpreted without running anything: classes and functions are names, and a call of one is handed
 * to a host that makes a value of it.
 *
 * *Source*: CPython's `pickletools` (the instructions of protocols 2 to 5, and Python 2's texts in them). *Differs*: the
 * textual instructions of protocols 0 and 1, the extension registry and out-of-band buffers are refused.
 *
 * @module
 */
import {
  CALL_BYTES,
  ENTRY_BYTES,
  GLOBAL_BYTES,
  LIST_BYTES,
  MAP_BYTES,
  OBJECT_BYTES,
  type PickleHost,
  PickleMachine,
  PLACE_BYTES,
  SET_BYTES,
} from "./pickle_machine.ts";
import { PickleGlobal, PickleObject, type PickleValue } from "./pickle_values.ts";

/** More than any weights need; bounds the time that a hostile file can cost. */
const INSTRUCTION_LIMIT = 1 << 22;

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
  return runPickle(new PickleMachine(bytes, host));
}

/** {@link loadPickle} on a machine, which then tells by its place where the pickle ended. */
export function runPickle(machine: PickleMachine): PickleValue {
  const { host } = machine;
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

/** Instructions by their code. */
const INSTRUCTIONS: ReadonlyMap<number, (m: PickleMachine) => void> = new Map<
  number,
  (m: PickleMachine) => void
>([
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
  [0x47, (m) => m.pushNew(PLACE_BYTES, m.float())],
  [0x54, (m) => m.push(m.text(m.uint(4)))],
  [0x55, (m) => m.push(m.text(m.uint(1)))],
  [0x58, (m) => m.push(m.text(m.uint(4)))],
  [0x8c, (m) => m.push(m.text(m.uint(1)))],
  [0x8d, (m) => m.push(m.text(m.uint(8)))],
  [0x42, (m) => m.push(m.take(m.uint(4)))],
  [0x43, (m) => m.push(m.take(m.uint(1)))],
  [0x8e, (m) => m.push(m.take(m.uint(8)))],
  [0x96, (m) => m.push(m.take(m.uint(8)))],
  [0x5d, (m) => m.pushNew(LIST_BYTES, [])],
  [0x29, (m) => m.pushTuple([])],
  [0x7d, (m) => m.pushNew(MAP_BYTES, new Map())],
  [0x8f, (m) => m.pushNew(SET_BYTES, new Set())],
  [0x61, (m) => append(m, [m.pop()])],
  [0x65, (m) => append(m, m.popToMark())],
  [0x90, (m) => append(m, m.popToMark())],
  [0x73, (m) => setItems(m, [m.pop(), m.pop()].reverse())],
  [0x75, (m) => setItems(m, m.popToMark())],
  [0x6c, (m) => m.pushTuple(m.popToMark())],
  [0x74, (m) => m.pushTuple(m.popToMark())],
  [0x64, (m) => dictionary(m)],
  [0x91, (m) => frozenSet(m, m.popToMark())],
  [0x85, (m) => m.pushTuple([m.pop()])],
  [0x86, (m) => m.pushTuple([m.pop(), m.pop()].reverse())],
  [0x87, (m) => m.pushTuple([m.pop(), m.pop(), m.pop()].reverse())],
  [0x68, (m) => m.get(m.uint(1))],
  [0x6a, (m) => m.get(m.uint(4))],
  [0x71, (m) => m.remember(m.uint(1))],
  [0x72, (m) => m.remember(m.uint(4))],
  [0x94, (m) => m.remember()],
  [0x63, (m) => global(m, m.line(), m.line())],
  [0x93, (m) => stackGlobal(m)],
  [0x52, (m) => call(m, m.popTuple())],
  [0x81, (m) => call(m, m.popTuple())],
  [0x92, (m) => callWithKeywords(m)],
  [0x62, (m) => build(m)],
  [0x51, (m) => m.push(m.host.persistent(m.pop()))],
]);

function protocol(m: PickleMachine): void {
  const version = m.uint(1);
  if (version < 2 || version > 5) throw m.host.fail(`its pickle must be of protocols 2 to 5, got ${version}`);
}

function frame(m: PickleMachine): void {
  const length = m.uint(8), at = m.at;
  m.skip(length); // throws if it reaches beyond the end
  m.at = at;
}

function append(m: PickleMachine, values: PickleValue[]): void {
  const target = m.top();
  m.host.memory.take(values.length * (target instanceof Set ? ENTRY_BYTES : PLACE_BYTES));
  if (target instanceof Set) { for (const value of values) target.add(value); }
  else {
    const list = target instanceof PickleObject ? target.elements : target;
    if (!Array.isArray(list)) throw m.broken("only lists and sets can be added to");
    for (const value of values) list.push(value);
  }
}

function dictionary(m: PickleMachine): void {
  const entries = m.popToMark();
  m.pushNew(MAP_BYTES, new Map());
  setItems(m, entries);
}

function setItems(m: PickleMachine, entries: PickleValue[]): void {
  const target = m.top(), map = target instanceof PickleObject ? target.items : target;
  if (!(map instanceof Map) || entries.length % 2 > 0) throw m.broken("only dictionaries have entries");
  m.host.memory.take(entries.length / 2 * ENTRY_BYTES);
  for (let i = 0; i < entries.length; i += 2) map.set(entries[i], entries[i + 1]);
}

function frozenSet(m: PickleMachine, values: PickleValue[]): void {
  m.pushNew(SET_BYTES + values.length * ENTRY_BYTES, new Set(values));
}

function global(m: PickleMachine, module: string, name: string): void {
  const builtin = /^(builtins|__builtin__|_?io)$/.test(module);
  if (FORBIDDEN_MODULES.test(module) || (builtin && FORBIDDEN_BUILTINS.test(name))) {
    throw m.host.fail(
      `its pickle asks for ${module}.${name}, which no weights need: the file may be hostile`,
    );
  }
  const named = new PickleGlobal(module, name);
  if (!m.host.isKnown(named)) {
    throw m.host.fail(
      `its pickle names ${named}, which is no part of a tensor: if the file is to hold more than weights, ` +
        'read it with foreign "record", which runs none of it',
    );
  }
  m.pushNew(GLOBAL_BYTES, named);
}

function stackGlobal(m: PickleMachine): void {
  const name = m.pop(), module = m.pop();
  if (typeof name !== "string" || typeof module !== "string") throw m.broken("a class must be named by text");
  global(m, module, name);
}

function call(m: PickleMachine, args: PickleValue[]): void {
  const callee = m.pop();
  m.host.memory.take(args.reduce((sum: number, arg) => sum + copyBytes(arg), CALL_BYTES));
  if (!(callee instanceof PickleGlobal || callee instanceof PickleObject)) {
    throw m.broken("only classes and functions can be called");
  }
  const value = callee instanceof PickleGlobal
    ? m.host.call(callee, args)
    : new PickleObject(`${callee.type}(…)`, args);
  m.pushNew(value instanceof PickleObject ? OBJECT_BYTES : 0, value);
}

function callWithKeywords(m: PickleMachine): void {
  const keywords = m.pop(), args = m.popTuple();
  call(m, keywords instanceof Map && keywords.size === 0 ? args : [...args, keywords]);
}

function build(m: PickleMachine): void {
  const state = m.pop(), parts = Array.isArray(state) ? state : [state];
  m.host.memory.take(parts.reduce((sum: number, part) => sum + copyBytes(part), 0));
  m.host.build(m.top(), state);
}

/** What a copy of a value needs, as a call or a state may make one. */
function copyBytes(value: PickleValue): number {
  if (value instanceof Map || value instanceof Set) return value.size * ENTRY_BYTES;
  if (Array.isArray(value)) return value.length * ENTRY_BYTES;
  return typeof value === "string" ? value.length : 0;
}
