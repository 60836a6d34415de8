import assert from 'node:assert/strict';
import test from 'node:test';
import { detect, pyramid, suppress } from '../../../mtface/publish/page/mtcnn.js';
import { cases, difference, toImage } from './cases.mjs';

/** Networks that check what they are shown, and answer what Python's answered. */
function replay(passes) {
  const left = [...passes];
  return async (name, data, shape) => {
    const { net, input, outputs } = left.shift();
    assert.equal(name, net);
    assert.deepEqual(shape, input.shape);
    const { largest } = difference(data, input.data);
    assert.ok(largest < 1e-6, `${net} is shown what is up to ${largest} off`);
    const values = Object.entries(outputs).map(([key, { data }]) => [key, Float32Array.from(data)]);
    const dims = Object.entries(outputs).map(([key, { shape }]) => [key, shape]);
    return { ...Object.fromEntries(values), dims: Object.fromEntries(dims) };
  };
}

for (const { name, image, minFace, passes, faces } of cases.pictures) {
  test(`faces: ${name}`, async () => {
    assert.deepEqual(await detect(toImage(image), replay(passes), { minFace }), faces);
  });
}

for (const { boxes, limit, ofSmaller, kept } of cases.suppressions) {
  test(`${boxes.length} boxes, limit ${limit}`, () => {
    assert.deepEqual(suppress(boxes, limit, ofSmaller), kept);
  });
}

test('the sizes of the pyramid', () => {
  for (const { width, height, minFace, scales } of cases.pyramids) {
    assert.ok(difference(pyramid(width, height, minFace), scales).largest < 1e-12);
  }
});
