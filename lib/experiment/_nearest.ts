/** Finds what a person may have meant by a misspelt name. */

/** The known dotted name nearest to a given one in spelling, as a whole or in its last part; null if none is known. */
export function nearestName(name: string, known: readonly string[]): string | null {
  const last = (path: string): string => path.slice(path.lastIndexOf(".") + 1);
  let best: string | null = null, least = Infinity;
  for (const candidate of known) {
    // A right last part under a wrong parent counts as near, but less so than a near whole.
    const whole = editDistance(name, candidate);
    const part = Math.min(editDistance(last(name), last(candidate)), editDistance(name, last(candidate))) + 1;
    // Among candidates that are equally near, the one that is nearest as a whole wins.
    const distance = Math.min(whole, part) + whole / 1000;
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** The least number of inserted, deleted, replaced or swapped neighbouring letters between two words. */
function editDistance(a: string, b: string): number {
  const table = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 1; j <= b.length; j++) table[0][j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, table[i - 2][j - 2] + 1);
      }
      table[i][j] = least;
    }
  }
  return table[a.length][b.length];
}
