/**
 * Figures as plain Plotly data, pictures, and the pages and notebooks that show them.
 *
 * Everything takes arrays and knows no model. Only `display.ts` knows Jupyter, only `html.ts` writes pages.
 *
 * @module
 */
export * from "./animation.ts";
export * from "./bar_chart.ts";
export * from "./class_scatter.ts";
export * from "./display.ts";
export * from "./figure.ts";
export * from "./html.ts";
export * from "./image_panel.ts";
export * from "./line_chart.ts";
export * from "./patch_maps.ts";
export * from "./raster.ts";
export * from "./reconstruction_grid.ts";
export * from "./report.ts";
export * from "./sample_panel.ts";
export * from "./table_text.ts";
export * from "./theme.ts";
export * from "./training_curve.ts";
export * from "./vector_field.ts";
