/**
 * What generator and discriminator minimise against each other.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Loss of the discriminator. */
export type AdversarialKind = "hinge" | "vanilla";

/** Added to the norm that the adaptive weight divides by, and the most it may be; as in taming-transformers. */
const WEIGHT_EPS = 1e-4, LARGEST_WEIGHT = 1e4;

/**
 * Loss of the discriminator: `½·(mean max(0, 1 − real) + mean max(0, 1 + fake))` for `hinge`,
 * `½·(mean softplus(−real) + mean softplus(fake))` for `vanilla`.
 *
 * *Source*: `hinge_d_loss` and `vanilla_d_loss` in `taming/modules/losses/vqperceptual.py` of
 * CompVis/taming-transformers.
 *
 * @param real logits of images.
 * @param fake logits of reconstructions.
 */
export function discriminatorLoss(kind: AdversarialKind, real: tf.Tensor, fake: tf.Tensor): tf.Scalar {
  const [onReal, onFake] = kind === "hinge"
    ? [tf.relu(tf.sub(1, real)), tf.relu(tf.add(1, fake))]
    : [tf.softplus(tf.neg(real)), tf.softplus(fake)];
  return tf.mul(tf.add(tf.mean(onReal), tf.mean(onFake)), 0.5) as tf.Scalar;
}

/** Loss of the generator, for both kinds: `−mean fake`. */
export function generatorLoss(fake: tf.Tensor): tf.Scalar {
  return tf.neg(tf.mean(fake)) as tf.Scalar;
}

/**
 * Weight that gives the adversarial term as long a gradient at the decoder's last kernel as the reconstruction has:
 * `clamp(‖∇reconstruction‖ / (‖∇adversarial‖ + 1e-4), 0, 1e4)`.
 *
 * The two constants are in the unit of the reconstruction loss: latent diffusion sums it over an image's values,
 * taming-transformers averages it. Else both conventions give the same total up to their factor.
 *
 * *Source*: Esser et al., "Taming Transformers" (arXiv 2012.09841), equation 7; `calculate_adaptive_weight` in the
 * code of both.
 */
export function adaptiveWeight(reconstructionGradient: tf.Tensor, adversarialGradient: tf.Tensor): tf.Scalar {
  const norm = (gradient: tf.Tensor) => tf.sqrt(tf.sum(tf.square(gradient)));
  const ratio = tf.div(norm(reconstructionGradient), tf.add(norm(adversarialGradient), WEIGHT_EPS));
  return tf.clipByValue(ratio, 0, LARGEST_WEIGHT) as tf.Scalar;
}
