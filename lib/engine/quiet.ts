/**
 * Keeps tfjs's CPU backend from printing an advertisement for tfjs-node on its first use.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

const backend = tf.engine().findBackend("cpu") as unknown as { firstUse: boolean };
backend.firstUse = false;
