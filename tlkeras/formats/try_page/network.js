// The network, run by LiteRT.js.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { fetched } from "./files.js";

const RUNTIME = "npm/@litertjs/core/wasm/";
const ARRAYS = { float32: Float32Array, int32: Int32Array };

/**
 * Returns a function from the arrays of a model's inputs to those of its outputs, both by name.
 *
 * `tensors` has the shape and type of every input. The function's second value is what the network
 * makes of zeros.
 */
export async function load(size, tensors) {
  const answer = await fetched("model.tflite");
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes.length !== size) {
    const [found, expected] = [bytes.length, size].map((count) => count.toLocaleString("en"));
    throw new Error(`model.tflite has ${found} bytes, expected ${expected}.`);
  }
  await loadLiteRt(RUNTIME).catch((error) => {
    // A script that cannot be fetched fails with an event, which says nothing.
    throw error instanceof Error ? error : new Error(`LiteRT.js is not there, in ${RUNTIME}.`);
  });
  const model = await loadAndCompile(bytes, { accelerator: "wasm" });
  const run = async (arrays) => {
    const given = Object.entries(tensors).map(([name, { shape }]) => [
      name, new Tensor(arrays[name], shape),
    ]);
    const served = await model.run(Object.fromEntries(given));
    const found = {};
    for (const [name, tensor] of Object.entries(served)) found[name] = await tensor.data();
    for (const [, tensor] of [...given, ...Object.entries(served)]) tensor.delete();
    return found;
  };
  // Memory is laid out in the first run, which would otherwise be the first answer's.
  const zeros = Object.entries(tensors).map(([name, { shape, dtype }]) => [
    name, new ARRAYS[dtype](shape.reduce((one, other) => one * other)),
  ]);
  return [run, await run(Object.fromEntries(zeros))];
}
