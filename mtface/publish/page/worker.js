// Runs the networks, beside the page so that it stays responsive. Takes { id, photo, minFace } with
// a photo as in pixels.js, and answers { id, faces, crops, ms } or { id, error }; first of all
// { ready: settings }, or { error } if a file cannot be loaded.

import * as ort from './ort/ort.js';
import { answerOf, faceJson } from './answers.js';
import { cutFace } from './crop.js';
import { throughJpeg } from './jpeg.js';
import { detect } from './mtcnn.js';

ort.env.wasm.numThreads = 1; // more would need headers that static hosts do not send
ort.env.wasm.wasmPaths = { wasm: new URL('./ort/ort.wasm', import.meta.url).href };

const DETECTOR = ['pnet', 'rnet', 'onet'];

async function load() {
  const reply = await fetch('./model.json');
  if (!reply.ok) throw new Error(`model.json: ${reply.status}`);
  const settings = await reply.json();
  const sessions = { model: await ort.InferenceSession.create('./model.onnx') };
  for (const name of DETECTOR) {
    sessions[name] = await ort.InferenceSession.create(`./detector/${name}.onnx`);
  }
  return { settings, sessions };
}

const loaded = load();
loaded.then(
  ({ settings }) => postMessage({ ready: settings }),
  (error) => postMessage({ error: String(error.message ?? error) }),
);

async function find({ sessions, settings }, photo, minFace) {
  const run = async (name, data, shape) => {
    const session = sessions[name];
    const input = new ort.Tensor('float32', data, shape);
    const found = Object.entries(await session.run({ [session.inputNames[0]]: input }));
    const dims = Object.fromEntries(found.map(([key, tensor]) => [key, tensor.dims]));
    return { ...Object.fromEntries(found.map(([key, tensor]) => [key, tensor.data])), dims };
  };
  const { thresholds, min_face: smallest } = settings.crop.detector;
  const found = await detect(photo, run, { minFace: minFace ?? smallest, thresholds });
  return found.filter(({ box }) => box[0] < photo.width && box[1] < photo.height);
}

function inputOf(photo, face, crop) {
  const image = cutFace(photo, face, crop);
  return crop.jpeg ? throughJpeg(image, crop.jpeg) : image;
}

async function classify({ sessions, settings }, crops) {
  if (!crops.length) return [];
  const { size, channels } = settings.crop;
  const length = size * size * channels;
  const pixels = new Uint8Array(crops.length * length);
  crops.forEach((crop, i) => pixels.set(crop.data, i * length));
  const image = new ort.Tensor('uint8', pixels, [crops.length, size, size, channels]);
  const found = await sessions.model.run({ [sessions.model.inputNames[0]]: image });
  return crops.map((_, i) => {
    const answers = settings.tasks.map((task) => {
      const { data, dims } = found[task.output];
      const probabilities = Array.from(data.subarray(i * dims[1], (i + 1) * dims[1]));
      return [task.name, answerOf(task, probabilities, settings.intervalShare)];
    });
    return Object.fromEntries(answers);
  });
}

async function answer({ id, photo, minFace }) {
  const start = performance.now();
  const all = await loaded;
  const found = await find(all, photo, minFace);
  const crops = await Promise.all(found.map((face) => inputOf(photo, face, all.settings.crop)));
  const answers = await classify(all, crops);
  const faces = found.map((face, i) => faceJson(face, answers[i]));
  return { id, faces, crops, ms: performance.now() - start };
}

onmessage = ({ data }) => {
  answer(data).then(postMessage, (error) => postMessage({ id: data.id, error: error.message }));
};
