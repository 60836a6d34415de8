// From a photograph and a found face to what the network was trained on: `Crop.apply` of
// mtface/faces/cropping.py, with schemes.py and align.py. `crop` is what `Crop.to_json` gives.

import { cutOut, makeImage, resizeArea, resizeLinear, toGrey, warpAffine } from './pixels.js';

// Below it, landmarks are no face: LEAST_CORRELATION of align.py.
const LEAST_CORRELATION = 0.5;

/** The network's input before it is compressed (`crop.jpeg`, jpeg.js): an image of crop.size x
 * crop.size pixels of crop.channels, 3 for RGB or 1 for grey. */
export function cutFace(photo, { box, landmarks }, { size, channels, grey, geometry }) {
  const cut = { clipped, margins, aligned }[geometry.kind];
  const image = cut(photo, box, landmarks, geometry, size, grey ? 1 : channels);
  return image.channels === channels ? image : repeated(image, channels);
}

/** Grey as several equal channels. */
function repeated({ data, width, height }, channels) {
  const out = new Uint8Array(data.length * channels);
  data.forEach((value, i) => out.fill(value, i * channels, (i + 1) * channels));
  return makeImage(out, width, height, channels);
}

/** The part of the box that is in the picture, stretched to a square. */
function clipped(photo, box, _landmarks, _geometry, size, channels) {
  const [left, top] = [Math.max(box[0], 0), Math.max(box[1], 0)];
  const [right, bottom] = [Math.min(box[2], photo.width), Math.min(box[3], photo.height)];
  const part = inChannels(cutOut(photo, left, top, right - left, bottom - top), channels);
  const shrinks = Math.min(part.width, part.height) >= size;
  return shrinks ? resizeArea(part, size, size) : resizeLinear(part, size, size);
}

/** The box and a margin around it, upright. */
function margins(photo, box, _landmarks, geometry, size, channels) {
  const [left, top, right, bottom] = region(box, geometry);
  const [across, down] = [size / (right - left), size / (bottom - top)];
  const matrix = [
    [across, 0, (0.5 - left) * across - 0.5],
    [0, down, (0.5 - top) * down - 0.5],
  ];
  return warp(inChannels(photo, channels), matrix, size);
}

function region([left, top, right, bottom], { margins: shares, square }) {
  const longer = Math.max(right - left, bottom - top);
  const [width, height] = square ? [longer, longer] : [right - left, bottom - top];
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  return [
    x - (shares[0] + 0.5) * width,
    y - (shares[1] + 0.5) * height,
    x + (shares[2] + 0.5) * width,
    y + (shares[3] + 0.5) * height,
  ];
}

/** The face turned so that its landmarks come closest to a template in the unit square. */
function aligned(photo, box, landmarks, geometry, size, channels) {
  const template = geometry.template.map((point) => point.map((value) => value * size - 0.5));
  const matrix = landmarks && similarity(landmarks, template);
  if (!matrix) return margins(photo, box, landmarks, geometry.instead, size, channels);
  return warp(inChannels(photo, channels), matrix, size);
}

/** Rotation, scale and translation that bring points closest to others: z -> a z + b of complex
 * numbers (Umeyama 1991, eqs. 40 to 42); null if they are in too different an order. */
export function similarity(points, template) {
  const [here, there] = [mean(points), mean(template)];
  let [real, imaginary, spread, spreadThere] = [0, 0, 0, 0];
  points.forEach((point, i) => {
    const [x, y] = [point[0] - here[0], point[1] - here[1]];
    const [u, v] = [template[i][0] - there[0], template[i][1] - there[1]];
    real += x * u + y * v;
    imaginary += x * v - y * u;
    spread += x * x + y * y;
    spreadThere += u * u + v * v;
  });
  const correlation = Math.hypot(real, imaginary);
  if (spread === 0 || !(correlation >= LEAST_CORRELATION * Math.sqrt(spread * spreadThere))) {
    return null;
  }
  const [p, q] = [real / spread, imaginary / spread];
  return [
    [p, -q, there[0] - p * here[0] + q * here[1]],
    [q, p, there[1] - q * here[0] - p * here[1]],
  ];
}

function mean(points) {
  return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}

/** A picture moved by a matrix; where it shrinks, drawn too large and averaged in blocks. */
function warp(image, matrix, size) {
  const times = Math.max(1, Math.ceil(1 / leastScale(matrix) - 1e-9));
  const finer = matrix.map((row) => row.map((value) => value * times));
  for (const row of finer) row[2] += (times - 1) / 2;
  return resizeArea(warpAffine(image, finer, size * times, size * times), size, size);
}

/** The smaller singular value. */
function leastScale([[a, b], [c, d]]) {
  return Math.abs(Math.hypot(a + d, b - c) - Math.hypot(a - d, b + c)) / 2;
}

const inChannels = (image, channels) => (channels === 1 ? toGrey(image) : image);
