/**
 * The classes and functions of PyTorch checkpoints that are understood. All others become inert records.
 *
 * @module
 */
import { told } from "novae/tensor/mod.ts";
import { NumpyArray, numpyScalar, numpyTensor, NumpyType } from "./pickle_numpy.ts";
import { PickleGlobal, PickleObject, type PickleValue, UnreadableTensor } from "./pickle_values.ts";
import { torchTensor } from "./pytorch_tensor.ts";

/** Makes a value of arguments; null if they are not as expected, and the call stays a record. */
type Constructor = (args: PickleValue[]) => PickleValue;

/**
 * Whether a class or function belongs to tensors: their storages, types and what puts them together. PyTorch's own
 * `weights_only` draws the line at the same place, without numpy's arrays.
 */
export function isTensorPart(named: PickleGlobal): boolean {
  const name = canonicalName(named);
  return CONSTRUCTORS.has(name) || UNREADABLE.test(name) || TENSOR_PARTS.test(name);
}

const TENSOR_PARTS = new RegExp(
  "^(torch(\\.cuda)?\\.\\w+Storage|torch\\.storage\\.(Untyped|Typed)Storage|torch\\.Tensor|torch\\.nn\\.parameter\\.Parameter" +
    "|torch\\.(b?float|u?int|q?u?int|complex|float8_)\\w*|torch\\.(bool|half|double|long|short)" +
    "|torch\\.serialization\\._get_layout|numpy\\.ndarray|numpy\\.dtypes\\.\\w+DType|builtins\\.(list|int|float|complex|slice))$",
);
const UNREADABLE = /^torch\._utils\._rebuild_\w*(tensor|parameter)\w*$/;

/** The value of a call of a class or function. */
export function constructValue(callee: PickleGlobal, args: PickleValue[]): PickleValue {
  const known = CONSTRUCTORS.get(canonicalName(callee))?.(args) ?? null;
  if (known !== null) return known;
  if (UNREADABLE.test(String(callee))) {
    return new UnreadableTensor(`it is made by ${callee}`);
  }
  return new PickleObject(String(callee), args);
}

/** Gives a value its state; the state of what is no tensor, such as `_metadata` of a state_dict, says nothing of weights. */
export function buildValue(target: PickleValue, state: PickleValue): void {
  if (target instanceof PickleObject || target instanceof NumpyArray || target instanceof NumpyType) {
    target.build(state);
  }
}

/** What a pickle says of a storage outside of it. */
export interface StorageId {
  /** Class of the storage. */
  readonly type: PickleGlobal;
  /** Its name in the file. */
  readonly key: string;
  /** Number of its elements. */
  readonly elements: PickleValue;
  /** Which part of it is meant; null for all. */
  readonly view: PickleValue;
}

/**
 * Reads the name by which a pickle refers to a storage.
 *
 * @throws what `fail` makes, if it names something else.
 */
export function storageId(id: PickleValue, fail: (why: string) => Error): StorageId {
  const [kind, type, key, , elements, view = null] = Array.isArray(id) ? id : [];
  if (kind !== "storage" || !(type instanceof PickleGlobal) || typeof key !== "string") {
    throw fail("its pickle refers to something that is no storage");
  }
  return { type, key, elements, view };
}

/** Python 2 had other names for its modules, and protocol 2 keeps them; numpy 2 moved its own. */
function canonicalName({ module, name }: PickleGlobal): string {
  const moved = module.replace(/^__builtin__$/, "builtins").replace(/^copy_reg$/, "copyreg")
    .replace(/^numpy\.core\b/, "numpy._core");
  return `${moved}.${name}`;
}

const FROM_TYPE = "torch._tensor._rebuild_from_type_v2";

const CONSTRUCTORS: ReadonlyMap<string, Constructor> = new Map<string, Constructor>([
  ["collections.OrderedDict", dictionary],
  ["collections.defaultdict", () => new Map()],
  ["builtins.dict", dictionary],
  ["builtins.set", ([elements]) => new Set(Array.isArray(elements) ? elements : [])],
  ["builtins.frozenset", ([elements]) => new Set(Array.isArray(elements) ? elements : [])],
  ["builtins.bytearray", (args) => args[0] instanceof Uint8Array ? args[0] : encoded(args)],
  ["builtins.bytes", encoded],
  ["_codecs.encode", encoded],
  [
    "copyreg._reconstructor",
    ([type]) => type instanceof PickleGlobal ? new PickleObject(String(type), []) : null,
  ],
  ["torch.Size", ([extents]) => Array.isArray(extents) ? extents : null],
  ["torch.device", ([type, index]) => typeof index === "number" ? `${told(type)}:${index}` : told(type)],
  [
    "torch._utils._rebuild_tensor",
    ([storage, offset, size, stride]) => torchTensor(storage, offset, size, stride),
  ],
  [
    "torch._utils._rebuild_tensor_v2",
    ([storage, offset, size, stride]) => torchTensor(storage, offset, size, stride),
  ],
  ["torch._utils._rebuild_tensor_v3", (args) => torchTensor(args[0], args[1], args[2], args[3], args[6])],
  ["torch._utils._rebuild_parameter", ([data]) => data],
  ["torch._utils._rebuild_parameter_with_state", ([data]) => data],
  [FROM_TYPE, fromType],
  ["numpy.dtype", ([code]) => typeof code === "string" ? new NumpyType(code) : null],
  ["numpy._core.multiarray.scalar", ([type, bytes]) => numpyScalar(type, bytes)],
  ["numpy._core.multiarray._reconstruct", () => new NumpyArray()],
  [
    "numpy._core.numeric._frombuffer",
    ([bytes, type, shape, order]) => numpyTensor(bytes, type, shape, order === "F"),
  ],
]);

function dictionary([entries]: PickleValue[]): PickleValue {
  if (entries instanceof Map) return new Map(entries);
  const pairs = Array.isArray(entries) ? entries : [];
  return new Map(
    pairs.filter((pair) => Array.isArray(pair) && pair.length === 2) as [PickleValue, PickleValue][],
  );
}

/** Bytes, which protocol 2 writes as text whose characters are the bytes. */
function encoded([text = ""]: PickleValue[]): PickleValue {
  return typeof text === "string" ? Uint8Array.from(text, (letter) => letter.charCodeAt(0)) : null;
}

/** A tensor of a class derived from it: the class is dropped, the tensor stays. */
function fromType([make, , args]: PickleValue[]): PickleValue {
  const nested = make instanceof PickleGlobal && canonicalName(make) === FROM_TYPE; // as deep as the file is long
  return make instanceof PickleGlobal && !nested && Array.isArray(args) ? constructValue(make, args) : null;
}
