import { z } from "zod";

const count = z.int().positive();

/** The images of a comparison, as a configuration has them. */
export const comparedImages = z.strictObject({
  name: z.enum(["solids", "cifar10", "folder"]),
  path: z.string(),
  train: count,
  test: count,
  imageSize: count,
});
