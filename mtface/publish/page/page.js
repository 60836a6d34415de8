// The page: a photograph is chosen or dropped, or the camera runs; the worker finds the faces and
// answers, and view.js shows them.

import { decode, openCamera, pixelsOf } from './photo.js';
import { drawPicture, showFaces } from './view.js';

const part = (id) => document.getElementById(id);
const worker = new Worker('./worker.js', { type: 'module' });
let settings = null;
let shown = { picture: null, faces: [] };
let camera = null;
let asked = 0;
const waiting = new Map();

function say(text, isError = false) {
  // What has not changed is not said again, by a screen reader, for every picture of the camera.
  if (part('status').textContent !== text) part('status').textContent = text;
  part('status').classList.toggle('error', isError);
}

const ready = new Promise((resolve, reject) => {
  worker.onmessage = ({ data }) => {
    if (data.ready) resolve(data.ready);
    else if (data.id === undefined) reject(new Error(data.error));
    else {
      const { done, failed } = waiting.get(data.id);
      waiting.delete(data.id);
      if (data.error) failed(new Error(data.error));
      else done(data);
    }
  };
  worker.onerror = (event) => reject(new Error(event.message ?? 'worker.js could not be loaded'));
});

function ask(photo, minFace) {
  const id = asked++;
  return new Promise((done, failed) => {
    waiting.set(id, { done, failed });
    worker.postMessage({ id, photo, minFace }, [photo.data.buffer]);
  });
}

function show(picture, { faces, crops }) {
  shown = { picture, faces };
  document.body.classList.add('has-picture');
  const mark = (i) => drawPicture(part('picture'), shown.picture, shown.faces, i);
  mark(-1);
  showFaces(part('faces'), faces, crops, settings, mark);
  part('json').textContent = JSON.stringify(faces, null, 1);
}

const counted = ({ length }) => (length === 1 ? '1 face' : `${length || 'No'} faces`);

async function readPhoto(file) {
  stopCamera();
  say(`Reading ${file.name} ...`);
  try {
    const { image, canvas } = await decode(file).catch(() => {
      throw new Error(`${file.name} is not a picture that this browser can read`);
    });
    await ready;
    say('Looking for faces ...');
    const found = await ask(image);
    show(canvas, found);
    say(`${counted(found.faces)} found in ${(found.ms / 1000).toFixed(1)} s.`);
  } catch (error) {
    say(error.message, true);
  }
}

async function startCamera() {
  part('camera').textContent = 'Stop the camera';
  part('camera').setAttribute('aria-pressed', 'true');
  const own = (camera = {}); // another one, or none, as soon as this one is to stop
  try {
    await ready;
    Object.assign(own, await openCamera());
    while (camera === own) await showFrame(own);
  } catch (error) {
    say(`The camera does not run: ${error.message}`, true);
    if (camera === own) stopCamera();
  }
  own.stop?.();
}

async function showFrame(own) {
  const { videoWidth, videoHeight } = own.video;
  const { image, canvas } = pixelsOf(own.video, videoWidth, videoHeight);
  const found = await ask(image, Math.round(videoHeight / 6)); // only large faces: it is faster
  if (camera !== own) return;
  show(canvas, found);
  say(`Camera: ${counted(found.faces)} found.`);
}

function stopCamera() {
  camera = null;
  part('camera').textContent = 'Start the camera';
  part('camera').setAttribute('aria-pressed', 'false');
}

function listen() {
  const file = part('file');
  part('choose').addEventListener('click', () => file.click());
  file.addEventListener('change', () => {
    if (file.files[0]) readPhoto(file.files[0]);
    file.value = ''; // so that the same file can be chosen again
  });
  part('camera').addEventListener('click', () => (camera ? stopCamera() : startCamera()));
  addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.add('dropping');
  });
  addEventListener('dragleave', () => document.body.classList.remove('dropping'));
  addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    if (event.dataTransfer.files[0]) readPhoto(event.dataTransfer.files[0]);
  });
  addEventListener('resize', () => {
    if (shown.picture) drawPicture(part('picture'), shown.picture, shown.faces);
  });
}

listen();
ready.then(
  (found) => {
    settings = found;
    part('run').textContent = settings.description;
    say('Ready: drop a photograph, choose one, or start the camera.');
  },
  (error) => say(`The page could not be loaded: ${error.message}`, true),
);
