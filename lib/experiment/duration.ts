/**
 * Lengths of time in words.
 *
 * @module
 */

/** A length of time for people: "8.2 s", "43 s", "4 min 10 s", "1 h 02 min". */
export function formatDuration(sec: number): string {
  if (!Number.isFinite(sec)) return "?";
  if (sec < 9.95) return `${Math.max(sec, 0).toFixed(1)} s`;
  const whole = Math.round(sec);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(sec / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
