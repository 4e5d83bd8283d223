/**
 * Keeps tfjs's CPU backend from printing an advertisement for tfjs-node on its first use.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

// Each instance prints it while its `firstUse` is true; there may be several, since tfjs starts backends anew.
Object.defineProperty(tf.MathBackendCPU.prototype, "firstUse", { get: () => false, set: () => {} });
