// Runs the guide's functions on a model and a recording and prints their results as JSON.
const { readFileSync } = require("fs");
const ort = require(found);
const [, model, sound, info] = process.argv;
async function main() {
  const bytes = readFileSync(sound);
  const samples = new Float32Array(bytes.buffer.slice(bytes.byteOffset), 0, bytes.length / 4);
  const session = await ort.InferenceSession.create(readFileSync(model));
  const steps = [];
  for await (const step of hear(ort, session, samples)) steps.push(Array.from(step));
  const { labels } = JSON.parse(readFileSync(info));
  console.log(JSON.stringify({ steps, events: await words(ort, session, samples, labels) }));
}
main();
