/**
 * Pretrained tiny autoencoders of the TAESD family.
 *
 * @module
 */
export * from "./networks.ts";
export * from "./taesd.ts";
export * from "./weights.ts";
