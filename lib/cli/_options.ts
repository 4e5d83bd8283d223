import { InvalidArgumentError } from "commander";

/** Parses an option that must be a positive whole number. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) {
    throw new InvalidArgumentError("must be a positive whole number");
  }
  return value;
}
