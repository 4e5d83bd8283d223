import { InvalidArgumentError } from "commander";

/** Parses an option that must be a positive whole number. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new InvalidArgumentError("must be a positive whole number");
  }
  return value;
}

/** Parses an option that must be a whole number of at least 0. */
export function parseNatural(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isInteger(value) || value < 0) {
    throw new InvalidArgumentError("must be a whole number of at least 0");
  }
  return value;
}

/** Parses an option that must be a finite number. */
export function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("must be a number");
  return value;
}
