/**
 * What a pickle holds, as inert values: nothing of it can run.
 *
 * @module
 */
import type { LazyTensor } from "./lazy_tensor.ts";

/**
 * A value of a pickle. Dictionaries are maps, lists and tuples arrays; integers beyond 2⁵³ are bigints; classes and
 * functions are {@link PickleGlobal}, objects of classes that are not known {@link PickleObject}.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | Set<PickleValue>
  | PickleGlobal
  | PickleObject
  | PickleLeaf;

/** Values that are made of others by what reads the pickle: tensors and their parts. */
export type PickleLeaf = LazyTensor | UnreadableTensor | { readonly opaque: true };

/** The name of a class or function. */
export class PickleGlobal {
  /** Where it is defined, e.g. `torch._utils`. */
  readonly module: string;
  /** Its name there. */
  readonly name: string;

  /** Names it. */
  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }

  /** Module and name, e.g. `argparse.Namespace`. */
  toString(): string {
    return `${this.module}.${this.name}`;
  }
}

/** An object of a class that is not known, with all that the pickle says of it. */
export class PickleObject {
  /** Module and name of its class, e.g. `argparse.Namespace`. */
  readonly type: string;
  /** What its constructor would have been given. */
  readonly args: readonly PickleValue[];
  /** Its attributes by name. */
  readonly attributes: Map<PickleValue, PickleValue> = new Map();
  /** Entries of a class derived from dictionaries. */
  readonly items: Map<PickleValue, PickleValue> = new Map();
  /** Elements of a class derived from lists or sets. */
  readonly elements: PickleValue[] = [];
  /** A state that is no list of attributes; null if there is none. */
  state: PickleValue = null;

  /** An object without attributes. */
  constructor(type: string, args: readonly PickleValue[]) {
    this.type = type;
    this.args = args;
  }

  /** The name of the class. */
  toString(): string {
    return this.type;
  }

  /** Sets attributes, or a state of another form. */
  build(state: PickleValue): void {
    const parts = Array.isArray(state) && state.length === 2 ? state : [state]; // (__dict__, __slots__)
    if (!parts.every((part) => part === null || part instanceof Map)) this.state = state;
    else {for (const part of parts) {
        if (part instanceof Map) part.forEach((value, name) => this.attributes.set(name, value));
      }}
  }
}

/** A tensor that is there but cannot be read, e.g. a quantised one. */
export class UnreadableTensor {
  /** What stands in the way, e.g. "its type is torch.complex64". */
  readonly reason: string;

  /** Says why. */
  constructor(reason: string) {
    this.reason = reason;
  }
}
