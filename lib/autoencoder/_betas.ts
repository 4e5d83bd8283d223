/**
 * The schema of Adam's decays, which both optimisers' settings have.
 *
 * @module
 */
import { z } from "zod";

const decay = z.number().min(0).lt(1);

/** Adam's decays of the gradient and of its square. */
export const betasSchema: z.ZodType<readonly [number, number]> = z.tuple([decay, decay]);
