/**
 * Standard errors by leaving out groups of samples.
 *
 * @module
 */
import { Rng } from "novae/tensor/mod.ts";

/**
 * Splits samples into random groups of equal size, give or take one; the same for equal numbers.
 *
 * Random because samples often come ordered by class, one after another or in turn: groups that hold unequal shares
 * of the classes would show how much a class matters, not how much chance does.
 *
 * @returns the samples' indices by group.
 */
export function jackknifeGroups(samples: number, groups: number): Int32Array[] {
  const order = new Rng(0).split("jackknife").permutation(samples);
  const edge = (group: number) => Math.floor(group * samples / groups);
  return Array.from({ length: groups }, (_, g) => order.slice(edge(g), edge(g + 1)));
}

/**
 * Mean and standard error from the values without each group, `SE² = (g−1)/g·Σ(θ₍ᵢ₎ − θ̄)²`.
 *
 * @param without the value without group 0, without group 1, …
 */
export function jackknifeSpread(without: readonly number[]): { mean: number; standardError: number } {
  const groups = without.length, mean = without.reduce((a, b) => a + b, 0) / groups;
  const squares = without.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { mean, standardError: Math.sqrt(squares * (groups - 1) / groups) };
}
