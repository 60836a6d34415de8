import assert from 'node:assert/strict';
import test from 'node:test';
import { cutFace } from '../../../mtface/publish/page/crop.js';
import { cases, toImage } from './cases.mjs';

const photo = toImage(cases.photo);

for (const { name, face, crop, expected } of cases.cuts) {
  test(name, () => {
    const { data, width, height, channels } = cutFace(photo, face, crop);
    assert.deepEqual([width, height, channels], [crop.size, crop.size, crop.channels]);
    assert.deepEqual(Array.from(data), expected);
  });
}
