/**
 * Errors that a person caused and can mend: the command line prints their message in one line and exits with
 * status 2, without a stack trace. Programming errors stay `TypeError` and `RangeError`.
 *
 * @module
 */

/** Base of all errors that are told to a person in one line. */
export class NovaeError extends Error {
  /** The name of the class, for messages. */
  override name = "NovaeError";
}

/** A configuration that cannot be used: unknown key, wrong type, values that contradict each other. */
export class ConfigError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "ConfigError";
}

/** A checkpoint that is missing, damaged or belongs to another configuration. */
export class CheckpointError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "CheckpointError";
}

/** Model weights that do not fit: missing, unexpected or misshapen tensors. */
export class WeightsError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "WeightsError";
}

/** Data that cannot be read: missing, truncated, undecodable or inconsistent files. */
export class DataError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "DataError";
}

/** A device that is absent or cannot run what was asked of it. */
export class DeviceError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "DeviceError";
}

/** A training that was stopped because a value stopped being finite. */
export class DivergenceError extends NovaeError {
  /** The name of the class, for messages. */
  override name = "DivergenceError";
}
