/**
 * The command line `novae`.
 *
 * @module
 */
export { buildProgram, main } from "./main.ts";
